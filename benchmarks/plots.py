"""Plots as inline SVG, with nothing but text: lines over logarithmic axes."""

from __future__ import annotations

import html
import math

WIDTH, HEIGHT, EDGE = 520, 320, 56
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
Series = dict[str, list[tuple[float, float]]]


def chart(title: str, x_name: str, y_name: str, series: Series, *, log: bool = True) -> str:
    """Draws lines with their points.

    Args:
        title: Stands above.
        x_name: Of the axis, which is logarithmic.
        y_name: Of the axis.
        series: Name -> points, x above 0; one point is drawn as a dot.
        log: Whether the y axis is logarithmic too (then y must be above 0); else it begins at 0.

    Returns:
        An `<svg>` element; empty where there is no point.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    across = _scale([x for x, _ in points], EDGE, WIDTH - 20, True)
    up = _scale([y for _, y in points] + [0.0] * (not log), HEIGHT - EDGE, 30, log)
    parts = [_text(WIDTH / 2, 18, title, "middle", 14)]
    parts += [_text(WIDTH / 2, HEIGHT - 34 + 14, x_name, "middle")]
    parts += [_text(12, 26, y_name, "start")]
    parts += [_axis(across, up, sorted({x for x, _ in points}), sorted({y for _, y in points}))]
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(_line([(across(x), up(y)) for x, y in line], colour))
        parts.append(_text(EDGE + 8, 44 + 14 * number, name, "start", 11, colour))
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    label = html.escape(title, quote=True)
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" {size}>' + (
        "".join(parts) + "</svg>"
    )


def _scale(values: list[float], start: float, end: float, log: bool):
    """Returns a function from a value to its place between `start` and `end`."""
    turn = math.log10 if log else float
    low, high = turn(min(values)), turn(max(values))
    low, high = (low - 0.1, high + 0.1) if log else (low, high + 0.1 * (high - low))
    span = high - low or 1.0
    return lambda value: start + (end - start) * (turn(value) - low) / span


def _axis(across, up, xs: list[float], ys: list[float]) -> str:
    left, bottom = EDGE, HEIGHT - EDGE
    frame = f"M{left} 30V{bottom}H{WIDTH - 20}"
    marks = [_text(across(x), bottom + 16, f"{x:.3g}", "middle", 10) for x in _few(xs)]
    marks += [_text(left - 6, up(y) + 4, f"{y:.3g}", "end", 10) for y in (ys[0], ys[-1])]
    return f'<path d="{frame}" fill="none" stroke="#888"/>' + "".join(marks)


def _few(values: list[float]) -> list[float]:
    return values if len(values) < 8 else [values[0], values[-1]]


def _line(points: list[tuple[float, float]], colour: str) -> str:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _text(x: float, y: float, words: str, anchor: str, size: int = 12, colour="#222") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    font = f'font-family="sans-serif" fill="{colour}"'
    return f"<text {where} {font}>{html.escape(words)}</text>"
