"""Whole pix2pix training steps:  python -m benchmarks.bench_train_step [--full] [--peer=torch]

Compares the lowerings of the strided and transposed convolutions, batches, ways to share a batch
between devices and, with --peer=torch, PyTorch's own step. Without --full the networks are a
quarter as wide and images half as large, so that a CPU finishes. Data are random: throughput does
not depend on them. `mfu` is the formula's FLOPs against the matrix product measured in the run.

  --full         the published widths, at 256 px
  --gpu          what is made for one GPU: bf16, batches 1 to 64, memory up to 1024 px
  --memory       memory of the compiled step alone: batch 1, 16, 64 at 256, 512, 1024 px, and what
                 gradients keep of each batch without and with rematerialisation, and its price
  --peer=torch   PyTorch (eager, compiled, channels_last, bf16) in turn with ours; on a CPU float32
                 and eager alone: bf16 has no fast kernels there
  --budget_s=S   begins no table later than this
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import os
import subprocess
import sys

import jax
import numpy as np

from benchmarks import harness
from benchmarks.harness import Variant
from msi2he_jax.config import default_config
from msi2he_jax.models import flops
from msi2he_jax.training.chunk import make_chunk
from msi2he_jax.training.methods import make_method, make_setup
from msi2he_jax.training.methods.gan import discriminator_objective
from msi2he_jax.training.methods.generator import forward
from msi2he_jax.training.parallel import Parallel, planned_cost

CHANNELS = 50
LOWERINGS = ("auto", "vjp", "matmul", "plain")
TORCH = {  # name -> options of torch_peer.step
    "eager": {},
    "eager, channels_last": {"channels_last": True},
    "compiled, channels_last": {"compiled": True, "channels_last": True},
    "eager, channels_last, bf16": {"channels_last": True, "bf16": True},
    "compiled, channels_last, bf16": {"compiled": True, "channels_last": True, "bf16": True},
}
SIZES_PX, BATCHES = (256, 512, 1024), (1, 16, 64)
REMAT = ("none", "activations", "networks")


def config_of(features: int, depth: int, lowering: str = "auto", dtype: str = "float32"):
    """Returns pix2pix' configuration at a given width, depth, lowering and compute dtype."""
    config = default_config()
    config.model.in_channels = CHANNELS
    config.model.features = config.discriminator.features = features
    config.model.depth = depth
    config.model.lowering, config.model.dtype = lowering, dtype
    return config


def compiled_step(config, batch: dict, *, mode: str = "jit", devices: int = 1, steps: int = 1):
    """Compiles `steps` steps in one call.

    Args:
        config: Of the networks.
        batch: `msi` and `image`, arrays, or only shapes and dtypes of them.
        mode: `jit` or `pmap`.
        devices: How many share the batch.
        steps: Steps a call.

    Returns:
        The call's executable, its placed arguments (None where `batch` has only shapes), seconds.
    """
    shared, chunk, inputs = _chunk(config, batch, mode, devices, steps)
    only_shapes = isinstance(batch["msi"], jax.ShapeDtypeStruct)
    if not only_shapes:
        inputs = tuple(shared.place(x) for x in inputs)
    executable, seconds = shared.compile(chunk, *inputs)
    return executable, None if only_shapes else inputs, seconds


def _chunk(config, batch: dict, mode: str = "jit", devices: int = 1, steps: int = 1) -> tuple:
    """Who shares the work, the steps as a function, and its inputs, shapes if `batch` has those."""
    shared = Parallel(mode, tuple(jax.devices()[:devices]))
    method = make_method(config, examples=100, axis_name=shared.axis_name)
    sample = shared.share(lambda arrays, step, seed: arrays)
    only_shapes = isinstance(batch["msi"], jax.ShapeDtypeStruct)
    state = jax.eval_shape(method.init) if only_shapes else method.init()
    return shared, make_chunk(method, sample, steps), (state, batch, np.uint32(0))


def asked_gflop(config, batch: dict) -> float:
    """Returns what a step asks for before any compiler leaves work out, GFLOP; nothing is run."""
    _, chunk, inputs = _chunk(config, batch)
    return jax.jit(chunk).lower(*inputs).cost_analysis()["flops"] / 1e9


def ours(name: str, config, batch: dict, **how) -> Variant:
    """Returns a variant that takes steps and waits for them; `how` as of `compiled_step`."""
    executable, (state, *rest), seconds = compiled_step(config, batch, **how)
    held, (size, side) = [state], batch["msi"].shape[:2]
    steps = how.get("steps", 1)

    def call() -> None:
        held[0], metrics = executable(held[0], *rest)
        jax.block_until_ready(metrics)

    facts = _facts(config, side, size) | {"compile_s": seconds}
    facts |= {"steps_per_call": steps, "devices": how.get("devices", 1)}
    return Variant(name, call, size * steps, facts=facts | planned_cost(executable))


def _facts(config, side: int, size: int) -> dict:
    work = flops.training_step(config.model, config.discriminator, side)
    return {"gflop": work / 1e9, "dtype": config.model.dtype, "batch": size, "side_px": side}


def random_batch(size: int, side: int) -> dict[str, np.ndarray]:
    """Returns `msi` [B, H, W, K] in [0, 1] and `image` [B, H, W, 3] in [-1, 1], float32."""
    random = np.random.default_rng(0)
    msi = random.random((size, side, side, CHANNELS), dtype=np.float32)
    return {"msi": msi, "image": 2 * random.random((size, side, side, 3), dtype=np.float32) - 1}


def table(size: int, side: int, features: int, depth: int, dtype: str = "float32", **asked) -> dict:
    """Times a step of `size` images of `side` px.

    Args:
        size: Images.
        side: px.
        features: Width of the first layers.
        depth: Halvings.
        dtype: Compute dtype.
        **asked: `lowerings`; `torch`, names of `TORCH`; `steps`, steps a call.
    """
    batch, steps = random_batch(size, side), asked.get("steps", 1)
    variants = []
    for name in asked.get("lowerings", ("auto",)):
        config = config_of(features, depth, name, dtype)
        variants.append(ours(f"msi2he_jax, {name}", config, batch, steps=steps))
    for name in asked.get("torch", ()):
        from benchmarks import torch_peer

        call = torch_peer.step(batch, features, depth, steps=steps, **TORCH[name])
        facts = _facts(config_of(features, depth), side, size)
        facts["dtype"] = "bfloat16" if "bf16" in name else "float32"
        variants.append(Variant(f"PyTorch, {name}", call, size * steps, True, facts))
    return {"unit": "images", "rows": harness.measure(variants, warm_up=2)}


def scaling_table(steps: int = 1, features: int = 8, depth: int = 5, side: int = 32) -> dict:
    """Times jit and pmap on 1, 2, 4 and all devices, one batch shared between them.

    A CPU forced into several devices leaves 4 out: each row there mostly waits for its compiler.
    """
    batch, most = random_batch(16, side), jax.device_count()
    counts = [n for n in (1, 2, 4, 8) if n <= most and (n != 4 or jax.default_backend() != "cpu")]
    config = config_of(features, depth)
    variants = [
        ours(f"{mode}, {n} devices", config, batch, mode=mode, devices=n, steps=steps)
        for n in counts
        for mode in ("jit", "pmap")
    ]
    return {"unit": "images", "rows": harness.measure(variants, rounds=3)}


def forced_scaling_table(count: int = 8) -> dict:
    """Makes `scaling_table` in a process that takes the CPU for `count` devices."""
    words = [sys.executable, "-m", "benchmarks.bench_train_step", "--child"]
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
    done = subprocess.run(words, env=os.environ | flags, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def memory_rows(features: int, depth: int, dtype: str, places: list[tuple[int, int]]) -> list[dict]:
    """Returns what a step plans to use and its gradients keep, by (px, batch); nothing is run.

    XLA's CPU compiler undoes rematerialisation, so that there only the plain step is compiled.
    """
    rows = []
    for remat, (side, size) in itertools.product(REMAT, places):
        config = config_of(features, depth, "auto", dtype)
        config.train.remat = remat
        row = {"remat": remat, "side_px": side, "batch": size}
        row["kept_gib"] = kept_gib(config, shapes_of(size, side))
        row["asked_gflop"] = asked_gflop(config, shapes_of(size, side))
        if remat == "none" or jax.default_backend() != "cpu":
            executable, _, seconds = compiled_step(config, shapes_of(size, side))
            row |= {"compile_s": seconds, **planned_cost(executable)}
        rows.append(row)
        print(row, flush=True)
    return rows


def shapes_of(size: int, side: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes and dtypes of a batch."""
    shapes = {"msi": (size, side, side, CHANNELS), "image": (size, side, side, 3)}
    return {name: jax.ShapeDtypeStruct(x, np.float32) for name, x in shapes.items()}


def kept_gib(config, batch: dict) -> float:
    """Returns how much the generator's and the discriminator's gradients keep of a batch, GiB.

    All arrays that their forward passes leave for their backward passes and that have the batch in
    front: by jax, before any compiler, and the same on every machine.
    """
    setup = make_setup(config)

    def backward(state, batch):
        part = batch, jax.random.split(jax.random.key(0), len(batch["msi"]))
        network = state.discriminator
        fake, generator, _ = forward(setup, state.generator.params, state.generator.stats, part)
        loss = lambda p: discriminator_objective(setup, p, network.stats, part, fake)  # noqa: E731
        return generator, jax.vjp(loss, network.params, has_aux=True)[1]

    begin = jax.eval_shape(make_method(config).init)
    leaves = jax.tree.leaves(jax.eval_shape(backward, begin, batch))
    held = [x for x in leaves if x.shape[:1] == batch["msi"].shape[:1]]
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in held) / 2**30


def remat_table(size: int, side: int, features: int, depth: int, dtype: str = "float32") -> dict:
    """Times a step that keeps all and steps that compute again."""
    variants = []
    for remat in REMAT:
        config = config_of(features, depth, "auto", dtype)
        config.train.remat = remat
        variants.append(ours(f"remat {remat}", config, random_batch(size, side)))
        variants[-1].facts["kept_gib"] = kept_gib(config, shapes_of(size, side))
    return {"unit": "images", "rows": harness.measure(variants)}


def jobs_of(options) -> dict:
    """Returns title -> what makes its table, the most telling first."""
    peers = tuple(TORCH) if options.peer == "torch" else ()
    peers = peers if options.gpu else peers[:2]
    jobs = {}
    if options.gpu:
        fast = peers[:1] + peers[-1:]
        for size in (16, 1, 64, 4):
            asked = {"torch": fast if size in (1, 16) else (), "steps": max(2, 64 // size)}
            title = f"training step, bf16, 256 px, 64 features, batch {size}"
            jobs[title] = lambda s=size, a=asked: table(s, 256, 64, 8, "bfloat16", **a)
        jobs["lowerings, bf16, 256 px, 64 features, batch 16"] = lambda: table(
            16, 256, 64, 8, "bfloat16", lowerings=("auto", "matmul"), steps=4
        )
        jobs["a batch shared by jit and pmap"] = lambda: scaling_table(10, 64, 5, 256)
        jobs["rematerialisation, bf16, 256 px, 64 features, batch 16"] = lambda: remat_table(
            16, 256, 64, 8, "bfloat16"
        )
        return jobs
    sizes = [(1, 256, 64, 8), (4, 256, 64, 8)] if options.full else [(4, 128, 16, 7)]
    kinds = ("auto", "matmul") if peers else LOWERINGS if options.full else ("auto", "plain")
    for size, side, features, depth in sizes:
        title = f"training step, {side} px, {features} features, batch {size}"
        jobs[title] = lambda a=(size, side, features, depth): table(
            *a, lowerings=kinds, torch=peers
        )
    if not options.full:
        for size in (1, 16):
            title = f"training step, 128 px, 16 features, batch {size}"
            jobs[title] = lambda size=size: table(size, 128, 16, 7)
        jobs["8 devices forced on the same cores, 32 px, batch 16"] = forced_scaling_table
    return jobs


def main(words: list[str] | None = None) -> None:
    """Runs the tables and prints where they are stored."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("full", "gpu", "memory", "child"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--peer", choices=("none", "torch"), default="none")
    parser.add_argument("--budget_s", type=float, default=1e9)
    options = parser.parse_args(words)
    if options.child:
        print(json.dumps(scaling_table()))
        return
    places = [(side, size) for side in SIZES_PX for size in BATCHES]
    if options.memory:
        rows = memory_rows(64, 8, "float32", places)
        again = {"rematerialisation, 128 px, 16 features, batch 4": remat_table(4, 128, 16, 7)}
        print(harness.save("memory", again, memory=rows, features=64, dtype="float32"))
        return
    keep = functools.partial(harness.save, "train_step_full" if options.full else "train_step")
    print(keep(*harness.run_tables(jobs_of(options), options.budget_s, keep)))


if __name__ == "__main__":
    main()
