"""Test samples side by side: MSI, synthetic, real, and where the two differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from msi2he_jax.reporting.figures import DIFFERENCE_TOP, difference, raster
from msi2he_jax.reporting.html import Markup, figure, image, join, missing, number, paragraph, tag

SYNTHETIC = Markup('<span class="mark">SYNTHETIC</span>')


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One test sample.

    Attributes:
        sample_id: Its name.
        group_id: Its patient.
        view: uint8 `[H, W, 3]`, three-channel view of the MSI.
        fakes: Model to uint8 `[H, W, 3]`.
        real: uint8 `[H, W, 3]`.
        valid_mask: bool `[H, W]`, where MSI was measured.
        um_per_px: Pixel size, um.
        scores: Metric to value, as in results.json.
    """

    sample_id: str
    group_id: str
    view: np.ndarray
    fakes: Mapping[str, np.ndarray]
    real: np.ndarray
    valid_mask: np.ndarray
    um_per_px: float
    scores: Mapping[str, float]


def panels_section(panels: Sequence[Panel], why_not: str = "", view: str = "pca") -> Markup:
    """Returns a row of pictures for each sample.

    Args:
        panels: The samples.
        why_not: Said where there are none.
        view: Name of the three-channel view.
    """
    if not panels:
        return missing("There are no pictures of test samples.", why_not)
    words = (
        f"Left to right: the MSI as a three-channel view ({view.upper()}), what the model made of "
        "it (synthetic: no tissue was stained), the real slide on the same grid, and the absolute "
        f"difference (dark: none; bright yellow: {DIFFERENCE_TOP:.0%} of the range or more), "
        "shown where MSI was measured."
    )
    return join([paragraph(words), *(_row(panel) for panel in panels)])


def _row(panel: Panel) -> Markup:
    pictures = [_picture(panel.view, f"MSI of {panel.sample_id}", "MSI")]
    first = next(iter(panel.fakes))
    for name, fake in panel.fakes.items():
        alt = f"Synthetic H&E of {panel.sample_id}, made by {name}"
        caption = join([SYNTHETIC, f" {name}"], "")
        pictures.append(_picture(fake, alt, caption))
    pictures.append(_picture(panel.real, f"Real H&E of {panel.sample_id}", "real H&E"))
    gap = difference(panel.fakes[first], panel.real, panel.valid_mask)
    alt = f"Absolute difference of synthetic and real H&E of {panel.sample_id}"
    caption = "difference" if len(panel.fakes) == 1 else f"difference, {first}"
    pictures.append(_picture(gap, alt, caption))
    heading = f"{panel.sample_id} (group {panel.group_id})"
    return join([tag("h3", heading), _facts(panel), tag("div", *pictures, class_="panels")])


def _picture(pixels: np.ndarray, alt: str, caption) -> Markup:
    small = max(pixels.shape[:2]) < 200
    return figure(image(raster(pixels), alt, pixelated=small), caption)


def _facts(panel: Panel) -> Markup:
    height, width = panel.real.shape[:2]
    size = f"{width} x {height} px of {panel.um_per_px:g} um"
    size += f" ({width * panel.um_per_px / 1000:.1f} x {height * panel.um_per_px / 1000:.1f} mm)"
    known = [
        f"{label} {number(panel.scores[name])}"
        for name, label in (
            ("ssim_masked", "SSIM in the tissue"),
            ("mi_corrected_nats", "corrected MI (nats)"),
        )
        if name in panel.scores
    ]
    return paragraph("; ".join([size, *known]) + ".", class_="note")
