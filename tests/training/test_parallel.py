"""Several devices give the gradient of one: gradients, since Adam turns rounding into weights."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.training import parallel

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, optax
from msi2he_jax.config import default_config
from msi2he_jax.training import chunk as chunks, parallel, state
from msi2he_jax.training.methods import METHODS, Optimizers, Setup

assert len(jax.devices()) == 8
# An "optimiser" that changes nothing and keeps the gradient as its state.
keeper = optax.GradientTransformation(
    lambda params: jax.tree.map(jnp.zeros_like, params),
    lambda gradient, kept, params, accept: (jax.tree.map(jnp.zeros_like, gradient), gradient),
)
config = default_config()
config.model.update({"name": "unet_ronneberger", "depth": 1, "features": 2, "in_channels": 3,
                     "upsample": "resize", "dropout": 0.5})
config.discriminator.update({"features": 2, "n_layers": 1})
# All that draws: dropout, the place of the penalty.
config.loss.gan = "wgangp"
rng = np.random.default_rng(0)
arrays = {name: rng.random((8, 8, 8, 3), np.float32) for name in ("msi", "image")}

def sample(arrays, step, seed):
    return arrays

def gradients(devices, arrays=arrays):
    parts = Setup(config, state.build_graphs(config, devices.axis_name),
                  Optimizers(keeper, keeper), devices.axis_name)
    inputs = [devices.place(x) for x in (state.create_train_state(config, keeper, keeper), arrays,
                                         jnp.uint32(0))]
    chunk = chunks.make_chunk(METHODS["gan"](parts), devices.share(sample), 1)
    compiled, seconds = devices.compile(chunk, *inputs)
    assert seconds > 0
    with jax.transfer_guard("disallow"):
        new, metrics = compiled(*inputs)
    new, metrics = devices.single((new, metrics))
    kept = [(part.optimizer, part.stats) for part in (new.generator, new.discriminator)]
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves((kept, metrics))]

reference = gradients(parallel.Parallel("jit", tuple(jax.devices()[:1])))
assert sum(np.abs(leaf).max() > 1e-3 for leaf in reference) > 10, "gradients must not vanish"
for mode in ("jit", "pmap"):
    shared = gradients(parallel.choose_devices(mode, 8))
    # Relative to the largest: a bias before a norm has a gradient of 0 but for rounding.
    scale = max(np.abs(leaf).max() for leaf in reference[:-4])
    worst = max(np.abs(a - b).max() for a, b in zip(reference, shared, strict=True))
    assert worst < 1e-5 * max(scale, 1.0), (mode, worst, scale)
    print(mode, "agrees")
"""

ALONE = """
# With statistics of their own, devices give the mean of what each finds alone; without draws, which
# follow an example's place in the batch.
config.statistics, config.model.dropout, config.loss.gan = "device", 0.0, "vanilla"
one = parallel.Parallel("jit", tuple(jax.devices()[:1]))
alone = [gradients(one, {name: x[k : k + 1] for name, x in arrays.items()}) for k in range(8)]
shared = gradients(parallel.choose_devices("pmap", 8))
for leaves in zip(shared, *alone, strict=True):
    assert np.abs(leaves[0] - np.mean(leaves[1:], axis=0)).max() < 1e-5 * max(scale, 1.0)
print("device agrees")
"""


def test_gradients_and_statistics_on_eight_devices_are_those_of_one():
    """jit and pmap alike, with dropout and all else that draws; statistics of the whole batch."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    environment["JAX_PLATFORMS"] = "cpu"
    cache = {
        "JAX_COMPILATION_CACHE_DIR": os.environ["MSI2HE_CACHE"],
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM + ALONE],
        env=environment | cache,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert printed.returncode == 0, printed.stderr[-3000:]
    assert printed.stdout.split("\n")[:3] == ["jit agrees", "pmap agrees", "device agrees"]


def test_a_batch_of_one_takes_one_device():
    assert len(parallel.choose_devices("jit", 1).devices) == 1


def test_unequal_shares_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: ["a", "b", "c", "d"])
    with pytest.raises(InputError, match=r"train\.batch_size: is 6, which 4 .*batch_size=8"):
        parallel.choose_devices("jit", 6)
    assert parallel.choose_devices("pmap", 8).axis_name == parallel.AXIS


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_place_and_single_are_inverse(mode):
    devices = parallel.Parallel(mode, tuple(jax.local_devices()[:1]))
    tree = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.int32(4)}
    back = devices.single(devices.place(tree))
    assert jax.tree.map(jnp.shape, back) == jax.tree.map(jnp.shape, tree)
    assert (back["a"] == tree["a"]).all() and back["b"] == 4


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    before = jax.config.jax_compilation_cache_dir
    try:
        monkeypatch.setenv("MSI2HE_CACHE", str(tmp_path))
        parallel.use_compilation_cache()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
