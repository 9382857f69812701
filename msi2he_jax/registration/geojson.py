"""QuPath's GeoJSON: annotations moved through a transform, and the MSI pixels that lie in them.

Coordinates are (x, y) in pixels of the full image, from the outer corner of its first pixel.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import read_json, write_json

POINTS = ("Point", "MultiPoint")
LINES = ("LineString", "MultiLineString")
MOST_ADDED = 1_000_000  # Points tried on the edges of one file.
LARGEST_PX = 1e9  # No coordinate is beyond: no image is so large.
AREAS = ("Polygon", "MultiPolygon")


@dataclasses.dataclass(frozen=True, eq=False)
class Region:
    """An annotated area.

    Attributes:
        name: As named, or numbered.
        label: Its class; may be empty.
        rings: Each `[N, 2]` float64 (y, x), um; what lies inside an odd number of them is inside.
    """

    name: str
    label: str
    rings: tuple[np.ndarray, ...]

    def contains(self, points_yx: np.ndarray) -> np.ndarray:
        """Tells which points lie inside.

        Args:
            points_yx: `[..., 2]` float (y, x), um.

        Returns:
            `[...]` bool.
        """
        from skimage.measure import points_in_poly

        flat = np.asarray(points_yx, np.float64).reshape(-1, 2)
        inside = np.zeros(len(flat), bool)
        for ring in self.rings:
            low, high = ring.min(axis=0), ring.max(axis=0)
            near = np.flatnonzero(np.all((flat >= low) & (flat <= high), axis=1))
            inside[near] ^= points_in_poly(flat[near], ring)
        return inside.reshape(np.shape(points_yx)[:-1])


def read_features(path: str | os.PathLike) -> list[dict]:
    """Reads the features of a GeoJSON file.

    Args:
        path: A FeatureCollection, a list of features, or one feature.

    Raises:
        InputError: not GeoJSON, or without a feature.
    """
    content = read_json(path)
    if isinstance(content, dict):
        content = content.get("features", [content])
    features = content if isinstance(content, list) else []
    for number, feature in enumerate(features, start=1):
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        if not isinstance(geometry, dict) or geometry.get("type") not in POINTS + LINES + AREAS:
            kind = geometry.get("type") if isinstance(geometry, dict) else None
            why = f"is of type {kind!r}, one of {', '.join(POINTS + LINES + AREAS)} was expected"
            raise InputError(path, f"feature {number}, geometry", why)
        for _ in _arrays(path, number, geometry):
            pass
    if not features:
        raise InputError(path, "features", "holds none", "export annotations as GeoJSON")
    return features


def write_features(path: str | os.PathLike, features: list[dict], system: dict) -> None:
    """Writes a FeatureCollection.

    Args:
        path: The `.geojson` file.
        features: GeoJSON features.
        system: What their coordinates count and where from; other readers pass over it.
    """
    content = {"type": "FeatureCollection", "coordinate_system": system, "features": features}
    write_json(path, content)


def regions_of(path: str | os.PathLike, features: list[dict], um_per_px: float) -> list[Region]:
    """Takes the areas out of features.

    Args:
        path: What to name in an error.
        features: From `read_features`.
        um_per_px: Pixel size of the image they were drawn on, at full resolution, um.

    Returns:
        One region per area, named `region N` where it has no name.

    Raises:
        InputError: no area at all.
    """
    regions = []
    for number, feature in enumerate(features, start=1):
        if feature["geometry"]["type"] in AREAS:
            rings = _arrays(path, number, feature["geometry"])
            rings = tuple(ring[:, ::-1] * um_per_px for ring in rings if len(ring) > 2)
            name, label = names_of(feature)
            regions.append(Region(name or f"region {len(regions) + 1}", label, rings))
    if not regions:
        raise InputError(path, "features", "holds no area", "draw polygons and export them")
    return regions


def names_of(feature: dict) -> tuple[str, str]:
    """Returns a feature's name and class, as QuPath writes them; empty where it has none.

    Args:
        feature: A GeoJSON feature.
    """
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    label = properties.get("classification") or ""
    label = label.get("name") or "" if isinstance(label, dict) else label
    return str(properties.get("name") or "").strip(), str(label).strip()


@dataclasses.dataclass(frozen=True)
class Bending:
    """How edges follow a field, since a bent edge is no line.

    Attributes:
        longest_px: Points are tried along each edge at most this far apart, px of the input.
        tolerance_px: Those without which the bent edge would be off by more are kept, px of what
            is written.
    """

    longest_px: float
    tolerance_px: float


def map_features(
    features: list[dict], move: Callable[[np.ndarray], np.ndarray], *, bending: Bending | None
) -> list[dict]:
    """Moves every coordinate.

    Args:
        features: From `read_features`.
        move: Takes points `[N, 2]` (x, y) and gives points `[N, 2]`.
        bending: How edges are bent; None leaves them straight, which is right for an affine.

    Returns:
        New features, all else as it was.

    Raises:
        InputError: more than `MOST_ADDED` points would be tried.
    """
    moved = copy.deepcopy(features)
    bent = [f["geometry"] for f in moved if bending and f["geometry"]["type"] not in POINTS]
    if bent:
        lines = [line for n, each in enumerate(bent) for line in _arrays("", n, each)]
        _check_count(sum(_edges(line, bending.longest_px).sum() for line in lines))
    for feature in moved:
        geometry = feature["geometry"]
        how = None if geometry["type"] in POINTS else bending
        geometry["coordinates"] = _mapped(geometry["coordinates"], move, how)
    return moved


def _mapped(values, move, bending):
    if _is_point(values):
        return move(np.array([values[:2]], np.float64))[0].tolist()
    if values and _is_point(values[0]):
        line = np.array([point[:2] for point in values], np.float64)
        return (move(line) if bending is None else _bent(line, move, bending)).tolist()
    return [_mapped(each, move, bending) for each in values]


def _bent(line: np.ndarray, move, bending: Bending) -> np.ndarray:
    """Moves a line; the points given are kept, and between them those that a bend needs."""
    from skimage.measure import approximate_polygon

    counts = _counts(line, bending.longest_px)
    moved = move(divided(line, bending.longest_px))
    ends = np.concatenate([[0], np.cumsum(counts)])
    parts = [moved[:1]]
    for start, end in itertools.pairwise(ends):
        parts.append(approximate_polygon(moved[start : end + 1], bending.tolerance_px)[1:])
    return np.concatenate(parts)


def divided(line: np.ndarray, longest: float) -> np.ndarray:
    """Puts points on long edges of a line.

    Args:
        line: `[N, 2]` float, any unit.
        longest: Longest edge wanted, in that unit.

    Returns:
        `[M, 2]` float64, M >= N; the points given are kept.

    Raises:
        InputError: more than `MOST_ADDED` points would be added.
    """
    parts = [line[:1]]
    for (start, end), count in zip(itertools.pairwise(line), _counts(line, longest), strict=True):
        share = np.arange(1, count + 1)[:, None] / count
        parts.append(start + share * (end - start))
    return np.concatenate(parts)


def _counts(line: np.ndarray, longest: float) -> np.ndarray:
    """Into how many parts each edge of a line is divided, `[N - 1]` int."""
    edges = _edges(line, longest)
    _check_count(edges.sum())
    return np.maximum(1, np.ceil(edges)).astype(int)


def _edges(line: np.ndarray, unit: float) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.linalg.norm(np.diff(line, axis=0), axis=1) / unit


def _check_count(parts: float) -> None:
    if parts > MOST_ADDED:
        why = f"would be divided into {parts:.3g} parts, at most {MOST_ADDED}"
        raise InputError("features", "coordinates", why, "edges are longer than any image")


def _arrays(path, number: int, geometry: dict) -> Iterator[np.ndarray]:
    """Every ring, line or group of points, `[N, 2]` float64 (x, y).

    Raises:
        InputError: anything but numbers in the right depth, within `LARGEST_PX`.
    """
    kind, values = geometry["type"], geometry.get("coordinates")
    depth = {"Point": 0, "MultiPoint": 1, "LineString": 1}.get(kind, 2)
    levels = [values]
    try:
        for _ in range(max(0, depth - 1) + (kind == "MultiPolygon")):
            levels = [each for level in levels for each in level]
        for level in levels:
            points = [level] if depth == 0 else level
            array = np.array([point[:2] for point in points], np.float64)
            if array.ndim != 2 or array.shape[1] != 2 or not np.all(np.isfinite(array)):
                raise ValueError
            if np.abs(array).max(initial=0) > LARGEST_PX:
                why = f"are beyond {LARGEST_PX:g} px"
                raise InputError(path, f"feature {number}, coordinates", why)
            yield array
    except InputError:
        raise
    except (TypeError, ValueError, IndexError, KeyError):
        why = f"are not those of a {kind}: numbers (x, y) were expected"
        raise InputError(path, f"feature {number}, coordinates", why) from None


def _is_point(value) -> bool:
    return bool(value) and all(isinstance(number, int | float) for number in value)
