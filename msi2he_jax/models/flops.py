"""Floating-point operations of a pix2pix training step, by formula: two per multiply and add.

Counted are convolutions only: a forward pass once, its kernel gradient once, its image gradient
once but where nothing needs it (of the MSI). The discriminator learns from two images and then
passes a gradient on to the generator's image.
"""

from __future__ import annotations

from typing import Any

SCALES_WIDTH = 8  # the most that channels grow, in widths of the first layer


def unet_forward(side: int, channels: int, features: int, depth: int) -> tuple[float, float]:
    """Returns FLOPs per image of the generator's forward pass, and of its first layer alone.

    Args:
        side: Of the square image, px.
        channels: Of the MSI.
        features: Width of the first layer.
        depth: Halvings.
    """
    widths = [features * min(2**level, SCALES_WIDTH) for level in range(depth)]
    total = first = 0.0
    for level, width in enumerate(widths):
        pixels = (side >> (level + 1)) ** 2
        inner = channels if level == 0 else widths[level - 1]
        outer = 3 if level == 0 else widths[level - 1]
        down = 2 * 16 * pixels * inner * width
        up = 2 * 16 * pixels * width * (1 if level == depth - 1 else 2) * outer
        first = first or down
        total += down + up
    return total, first


def patchgan_forward(side: int, channels: int, features: int, layers: int = 3) -> tuple:
    """Returns FLOPs per image of the discriminator's forward pass, and of its first layer alone.

    Args:
        side: Of the square image, px.
        channels: Of the MSI.
        features: Width of the first layer.
        layers: `n_layers`.
    """
    total, first, inner, size = 0.0, 0.0, channels + 3, side
    for level in range(layers + 2):
        size = size // 2 if level < layers else size - 1
        width = 1 if level == layers + 1 else features * min(2**level, SCALES_WIDTH)
        one = 2 * 16 * size**2 * inner * width
        first, total, inner = first or one, total + one, width
    return total, first


def training_step(model: Any, discriminator: Any, side: int) -> float | None:
    """Returns FLOPs per image of a whole training step: G, D on fake and real, G through D.

    Args:
        model: Section `model` of a configuration.
        discriminator: Section `discriminator`.
        side: Of the square image, px.

    Returns:
        The number; None for networks that the formula is not for.
    """
    one_patchgan = discriminator.name == "patchgan" and discriminator.scales == 1
    if model.name != "unet_pix2pix" or not one_patchgan:
        return None
    if model.upsample != "deconv" or not discriminator.conditional:
        return None
    channels = model.in_channels
    generating, first = unet_forward(side, channels, model.features, model.depth)
    sizes = discriminator.features, discriminator.n_layers
    discriminating, entrance = patchgan_forward(side, channels, *sizes)
    learning = 2 * (3 * discriminating - entrance)
    through = 2 * discriminating - entrance * channels / (channels + 3)
    return 3 * generating - first + learning + through
