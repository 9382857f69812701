"""How a configuration differs from the two recipes that the DESI/H&E paper published."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from msi2he_jax.config.names import differences, value
from msi2he_jax.config.reading import load_config
from msi2he_jax.config.shipped import shipped_configs

# The shipped configuration of each, by the paper's name of the model.
PUBLISHED = {"U-Net": "unet", "pix2pix": "pix2pix"}
# Other sizes and lengths leave the recipe what it is, but are said.
SIZES = (
    "data.crop_px",
    "model.depth",
    "model.features",
    "discriminator.features",
    "discriminator.n_layers",
    "train.steps",
    "train.epochs",
)
# Where and how often something is done, not what is learnt. How the model is used at test time
# stands in the results by itself.
_ELSEWHERE = (
    "name",
    "seed",
    "parallel",
    "data.dir",
    "data.loader",
    "data.padding",
    "model.in_channels",
    "model.lowering",
    "train.remat",
    "train.steps_per_call",
    "train.eval_every",
    "train.checkpoint_every",
    "train.image_every",
    "train.patience",
    "train.best_metric",
    "test.norm_at_test",
    "test.dropout_at_test",
)


def published_differences(config: ConfigDict, model: str) -> tuple[list[str], list[str]]:
    """Says how a configuration differs from a published recipe.

    Args:
        config: The whole configuration.
        model: "U-Net" or "pix2pix".

    Returns:
        Differences that make it another recipe, and differences in size or length only, each as
        `KEY VALUE (published: VALUE)`.
    """
    published = load_config(shipped_configs()[PUBLISHED[model]])
    recipe, sizes = [], []
    ignored = {*_ELSEWHERE, *(["train.steps"] if config.train.epochs else [])}
    for key in differences(config, published):
        if key not in ignored:
            found, meant = (_word(value(each, key)) for each in (config, published))
            words = f"{key} {found} (published: {meant})"
            (sizes if key in SIZES else recipe).append(words)
    return recipe, sizes


def _word(found: Any) -> str:
    return f"{found:g}" if isinstance(found, float) else str(found)
