"""Scores on the validation split during training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.metrics import similarity
from msi2he_jax.training.state import run

LOWER_IS_BETTER = ("mae", "mae_masked")


def make_evaluator(config: Any, graph: Any) -> Callable[..., tuple[dict, jax.Array]]:
    """Returns the compiled `(params, stats, arrays) -> (scores, images)` for a split.

    Each image is synthesised by itself, so that with `norm_at_test="batch"` its statistics are its
    own, as in pix2pix' test.

    Args:
        config: The whole configuration; section `test` decides on statistics and dropout.
        graph: `nnx.GraphDef` of the generator.

    Returns:
        A function of the generator's arrays, of `first`, the number of the first example where
        these are a part of a split, and of `msi` `[N, H, W, K]`, `histology` uint8 `[N, H,
        W, 3]`, `tissue_mask` and `valid_mask` bool `[N, H, W]`. Scores are `[N]` float32 on images
        in [0, 1]: `ssim` and `mae` inside the section, `ssim_masked` and `mae_masked` inside the
        tissue. Images are `[N, H, W, 3]` uint8.
    """

    @jax.jit
    def evaluate(params, stats, arrays, first=0):
        def one(example):
            number, msi, real, tissue, valid = example
            key = jax.random.fold_in(jax.random.key(config.seed), number)
            modes = {"train": False, "norm": config.test.norm_at_test}
            modes["dropout_key"] = key if config.test.dropout_at_test else None
            fake = run(graph, params, stats, msi[None], **modes)[0].astype(jnp.float32)
            fake = jnp.clip(0.5 * fake + 0.5, 0.0, 1.0)
            scores = _scores(fake, real[None] / jnp.float32(255.0), tissue[None], valid[None])
            return scores, jnp.round(fake[0] * 255.0).astype(jnp.uint8)

        names = ("msi", "histology", "tissue_mask", "valid_mask")
        inputs = [arrays[name] for name in names]
        return jax.lax.map(one, (first + jnp.arange(len(inputs[0])), *inputs))

    return evaluate


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
        return run(graph, params, {}, *images)[0]

    return flow


def _scores(fake, real, tissue, valid) -> dict[str, jax.Array]:
    scores = {}
    for suffix, mask in (("", valid), ("_masked", tissue)):
        ssim = similarity.structural_similarity(fake, real, data_range=1.0, mask=mask)
        scores[f"ssim{suffix}"] = ssim[0]
        scores[f"mae{suffix}"] = similarity.mae(fake, real, mask=mask)[0]
    return scores


def is_better(name: str, value: float, best: float | None) -> bool:
    """Returns whether `value` of the metric `name` beats `best`; NaN never does."""
    if value != value:
        return False
    if best is None:
        return True
    return value < best if name in LOWER_IS_BETTER else value > best
