"""Scores on the validation split during training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.metrics.evaluation import score_batch
from msi2he_jax.training.methods import make_method
from msi2he_jax.training.state import apply_network

LOWER_IS_BETTER = ("mae", "mae_masked")
IMAGES = ("histology", "tissue_mask", "valid_mask")


def make_evaluator(config: Any) -> Callable[..., tuple[dict, jax.Array]]:
    """Returns `(params, stats, arrays) -> (scores, images)` for a split.

    Each image is synthesised by itself, so that with `norm_at_test="batch"` its statistics are its
    own, as in pix2pix' test.

    Args:
        config: The whole configuration; section `test` decides on statistics and dropout.

    Returns:
        A function of the generator's arrays, of `first`, the number of the first example where
        these are a part of a split, and of `msi` `[N, H, W, K]`, `histology` uint8 `[N, H,
        W, 3]`, `tissue_mask` and `valid_mask` bool `[N, H, W]`. Scores are `[N]` float32 by the
        names of `metrics.evaluation`, as evaluate measures them; `ms_ssim` only where
        `train.best_metric` asks for it. Images are `[N, H, W, 3]` uint8.
    """
    method = make_method(config)  # without a mapped axis: every process scores by itself

    @jax.jit
    def generate(params, stats, msi, first):
        def one(example):
            number, msi = example
            key = jax.random.fold_in(jax.random.key(config.seed), number)
            modes = {"norm": config.test.norm_at_test}
            modes["dropout_key"] = key if config.test.dropout_at_test else None
            fake = method.synthesize(params, stats, msi[None], **modes).astype(jnp.float32)
            return jnp.clip(0.5 * fake[0] + 0.5, 0.0, 1.0)

        return jax.lax.map(one, (first + jnp.arange(len(msi)), msi))

    def evaluate(params, stats, arrays, first=0):
        fakes = generate(params, stats, arrays["msi"], first)
        truth = (arrays[name] for name in IMAGES)
        ms_ssim = config.train.best_metric == "ms_ssim"
        return _scores(fakes, *truth, ms_ssim=ms_ssim), _to_bytes(fakes)

    return evaluate


@functools.partial(jax.jit, static_argnames="ms_ssim")
def _scores(fakes, real, tissue, valid, *, ms_ssim: bool) -> dict[str, jax.Array]:
    """Scores a split image by image, so that memory is that of one; compiled once for all runs."""

    def one(example):
        fake, real, tissue, valid = (image[None] for image in example)
        blocks = score_batch(fake, real / jnp.float32(255.0), tissue, valid, ms_ssim=ms_ssim)
        return {name: score[0] for block in blocks.values() for name, score in block.items()}

    return jax.lax.map(one, (fakes, real, tissue, valid))


@jax.jit
def _to_bytes(images) -> jax.Array:
    return jnp.round(images * 255.0).astype(jnp.uint8)


def in_parts(evaluate: Callable[..., tuple], size: int = 8) -> Callable[..., tuple]:
    """Returns the same for a split that stays on the host, `size` examples on the device at a time.

    Args:
        evaluate: From `make_evaluator`.
        size: Examples at a time.
    """

    def evaluate_all(params, stats, arrays):
        found = []
        for first in range(0, len(arrays["msi"]), size):
            part = {name: array[first : first + size] for name, array in arrays.items()}
            found.append(jax.device_get(evaluate(params, stats, part, first)))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *found)

    return evaluate_all


def estimate_flow(graph: Any, params: Any) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns the compiled flow network, from synthetic and real images to displacements.

    Args:
        graph: `nnx.GraphDef` of the flow network.
        params: Its parameters.

    Returns:
        A function of two `[N, H, W, 3]` uint8, giving `[N, H, W, 2]` float32: px.
    """

    @jax.jit
    def flow(fake, real):
        images = (x.astype(jnp.float32) / 127.5 - 1.0 for x in (fake, real))
        return apply_network(graph, params, {}, *images)[0]

    return flow


def is_better(name: str, value: float, best: float | None) -> bool:
    """Returns whether `value` of the metric `name` beats `best`; NaN never does.

    Example:
        >>> is_better("mae", 0.1, 0.2), is_better("r2", 0.1, 0.2), is_better("r2", 0.1, None)
        (True, False, True)
    """
    if value != value:
        return False
    if best is None:
        return True
    return value < best if name in LOWER_IS_BETTER else value > best
