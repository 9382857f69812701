"""Plots and pictures as PNG bytes, drawn with matplotlib; colours the colour-blind tell apart."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

DPI = 144
DIFFERENCE_TOP = 0.5


@dataclasses.dataclass(frozen=True)
class Look:
    """How a plot is drawn for one kind of reader.

    Attributes:
        paper: Background.
        ink: Text.
        line: Axes and grid.
        colours: Series, of Okabe and Ito, set apart from the background.
        width_in: Width of the plot in inches.
    """

    paper: str
    ink: str
    line: str
    colours: tuple[str, ...]
    width_in: float


_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#aa4488", "#8a6d00", "#56b4e9")
_DARK = ("#56b4e9", "#ffc04d", "#2fc49a", "#e39ccc", "#f0e442", "#88a0ff")


def look(*, dark: bool = False, narrow: bool = False) -> Look:
    """Returns the look for a light or dark, wide or narrow page."""
    width_in = 3.9 if narrow else 7.4
    if dark:
        return Look("#14171a", "#e6e9ec", "#4a535c", _DARK, width_in)
    return Look("#ffffff", "#1b1f24", "#c3cad1", _LIGHT, width_in)


def learning_curves(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], style: Look
) -> bytes:
    """Draws one panel of curves over training steps for each quantity.

    Args:
        panels: Title to series; each series is a name to (steps, values), both `[N]`.
        style: From `look`.
    """
    columns = 1 if style.width_in < 5 else min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = _grid(rows, columns, 2.1 * rows + 0.3, style)
    for axis, (title, series) in zip(axes, panels.items()):
        for index, (name, (steps, values)) in enumerate(series.items()):
            colour = style.colours[index % len(style.colours)]
            mark = {"marker": "o", "markersize": 3} if len(steps) <= 40 else {}
            axis.plot(steps, values, color=colour, linewidth=1.4, label=name, **mark)
        axis.set_title(title, loc="left", fontsize=9.5)
        axis.set_xlabel("training step")
        if len(series) > 1:
            _legend(axis, style)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    return _png(figure)


def peak_sticks(mz: np.ndarray, height: np.ndarray, style: Look) -> bytes:
    """Draws peaks as sticks.

    Args:
        mz: `[K]` float, m/z.
        height: `[K]` float >= 0, any unit.
        style: From `look`.
    """
    figure, (axis,) = _grid(1, 1, 2.5, style)
    relative = np.asarray(height, float) / max(float(np.max(height, initial=0.0)), 1e-30)
    axis.vlines(mz, 0, relative, color=style.colours[0], linewidth=1.2)
    axis.set_xlabel("m/z")
    axis.set_ylabel("height, relative to the highest")
    axis.set_ylim(0, 1.05)
    return _png(figure)


def intervals(
    panels: Mapping[str, Sequence[tuple[str, float, float, float]]],
    style: Look,
    *,
    first: Sequence[str] = (),
) -> bytes:
    """Draws means with their intervals, one panel a metric, one row a method.

    Args:
        panels: Metric to rows of (method, mean, low, high).
        style: From `look`.
        first: Methods drawn in the accent colour; the others are baselines.
    """
    columns = 1 if style.width_in < 5 else len(panels)
    rows = -(-len(panels) // columns)
    longest = max(len(values) for values in panels.values())
    figure, axes = _grid(rows, columns, (0.26 * longest + 0.8) * rows, style, share_y=columns > 1)
    for axis, (metric, values) in zip(axes, panels.items()):
        for place, (name, mean, low, high) in enumerate(values):
            colour, mark = (style.colours[1], "D") if name in first else (style.colours[0], "o")
            axis.plot([low, high], [place, place], color=colour, linewidth=2, alpha=0.75)
            axis.plot([mean], [place], mark, color=colour, markersize=5)
        axis.set_yticks(range(len(values)), [name for name, *_ in values])
        axis.set_ylim(len(values) - 0.5, -0.5)
        axis.set_title(metric, loc="left", fontsize=9.5)
    return _png(figure)


def errors_by_sample(
    names: Sequence[str],
    errors_um: Mapping[str, Sequence[float | None]],
    failed: Sequence[bool],
    style: Look,
) -> bytes:
    """Draws registration errors, one row a sample; a cross marks a failure of the first method.

    Args:
        names: N samples.
        errors_um: Method to its median target registration error of each sample, um.
        failed: N, whether the first method failed.
        style: From `look`.
    """
    figure, (axis,) = _grid(1, 1, 0.24 * len(names) + 1.2, style)
    for index, (method, errors) in enumerate(errors_um.items()):
        options = {"color": style.colours[index], "markersize": 6 - index, "linestyle": ""}
        for mark, label, rows in _marks(method, failed if index == 0 else [False] * len(names)):
            known = [row for row in rows if errors[row] is not None]
            if known:
                axis.plot([errors[row] for row in known], known, mark, label=label, **options)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel("median target registration error (um)")
    axis.set_xlim(left=0)
    place = {"loc": "outside upper right", "ncols": 3}
    figure.legend(frameon=False, fontsize=8, labelcolor=style.ink, **place)
    return _png(figure)


def _marks(method: str, failed: Sequence[bool]) -> list[tuple[str, str, list[int]]]:
    """Marker, label and rows of a method's successes and of its failures."""
    good = [row for row, bad in enumerate(failed) if not bad]
    bad = [row for row, bad in enumerate(failed) if bad]
    return [("o", method, good), ("X", f"{method}: failure", bad)]


def raster(pixels: np.ndarray, *, longest_px: int = 320) -> bytes:
    """Returns an image as PNG bytes, made smaller where it is larger than the page needs.

    Args:
        pixels: `[H, W, 3]` or `[H, W]` uint8, sRGB.
        longest_px: Longest side of the result.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = longest_px / max(picture.size)
    if scale < 1:
        size = [max(1, round(side * scale)) for side in picture.size]
        picture = picture.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def difference(first: np.ndarray, second: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Returns the absolute difference in false colour, dark for none.

    Args:
        first: `[H, W, 3]` uint8, sRGB.
        second: Likewise.
        mask: bool `[H, W]`, where it is shown; the rest is black.

    Returns:
        `[H, W, 3]` uint8; the scale ends at `DIFFERENCE_TOP` of the full range.
    """
    gap = np.abs(first.astype(np.float32) - second.astype(np.float32)).mean(axis=-1) / 255
    colours = matplotlib.colormaps["cividis"](np.clip(gap / DIFFERENCE_TOP, 0, 1))[..., :3]
    shown = np.rint(colours * 255).astype(np.uint8)
    return shown if mask is None else np.where(mask[..., None], shown, 0).astype(np.uint8)


def _grid(rows: int, columns: int, height_in: float, style: Look, *, share_y: bool = False):
    figure = Figure(
        figsize=(style.width_in, height_in), facecolor=style.paper, layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row" if share_y else False)
    for axis in axes.ravel():
        axis.set_facecolor(style.paper)
        axis.tick_params(colors=style.ink, labelsize=8, length=3)
        axis.grid(color=style.line, linewidth=0.5, alpha=0.6)
        axis.set_axisbelow(True)
        for name, spine in axis.spines.items():
            spine.set_visible(name in ("left", "bottom"))
            spine.set_color(style.line)
        for label in (axis.title, axis.xaxis.label, axis.yaxis.label):
            label.set_color(style.ink)
            label.set_fontsize(8.5)
        axis.set_title("", loc="left", color=style.ink)
    return figure, list(axes.ravel())


def _legend(axis, style: Look) -> None:
    axis.legend(frameon=False, fontsize=8, labelcolor=style.ink, loc="best")


def _png(figure: Figure) -> bytes:
    """Writes without mathtext: names from data may hold dollar signs."""
    for word in figure.findobj(match=lambda artist: hasattr(artist, "set_parse_math")):
        word.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
