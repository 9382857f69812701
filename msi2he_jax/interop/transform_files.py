"""Applies a transform to a file: an image, a list of points, or QuPath annotations."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.histology import read_histology
from msi2he_jax.histology.pixel_size import NoPixelSize
from msi2he_jax.interop.ome_tiff import SYNTHETIC, read_ome_tiff
from msi2he_jax.interop.write_image import image_writer, write_image
from msi2he_jax.io_safety import LIMITS, existing_file
from msi2he_jax.registration import geojson, point_table
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.registration.scores import fold_warnings
from msi2he_jax.registration.transforms import Transform
from msi2he_jax.registration.warping import out_grid, warp_by_bands

SIDES = ("msi", "histology")
UNITS = {"msi": "pixels of the MSI", "histology": "level-0 pixels of the slide"}
ORIGINS = {
    "msi": "the outer corner of the MSI's pixel of least x and y",
    "histology": "the outer corner of the slide's first pixel",
}
ORDERS = {"nearest": 0, "linear": 1}
MOST_BYTES = 8 * 2**30
# Points are tried along a QuPath edge at this share of the field's own spacing.
EDGE_SHARE = 0.25
# So far, in MSI pixels, a bent edge may be from its place between its points.
BENT_TOLERANCE_PX = 0.01


@dataclasses.dataclass(frozen=True)
class ApplyOptions:
    """How a file is moved.

    Attributes:
        to: `msi` or `histology`, the frame it is moved into.
        input_um_per_px: Pixel size of the input, um; None takes the file's own.
        out_um_per_px: Pixel size of what is written, um; None: a quarter of the MSI's pixel.
        interpolation: `linear`, or `nearest` for labels.
    """

    to: str
    input_um_per_px: float | None = None
    out_um_per_px: float | None = None
    interpolation: str = "linear"


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """An image to be moved.

    Attributes:
        pixels: `[H, W, C]` uint8 or float32.
        um_per_px: Pixel size (y, x), um.
        origin_um: (y, x) of its outer corner in its frame, um.
        channel_names: One per channel, or None for RGB.
        synthetic: Whether a network made it.
        warnings: What is odd in its file.
    """

    pixels: np.ndarray
    um_per_px: tuple[float, float]
    origin_um: tuple[float, float]
    channel_names: tuple[str, ...] | None
    synthetic: bool
    warnings: tuple[str, ...] = ()


def points_mover(transform: Transform, to: str):
    """Returns the function that takes points `[..., 2]` (y, x) um into a frame.

    Args:
        transform: MSI to histology.
        to: `msi` or `histology`.

    Raises:
        InputError: an unknown frame; the function, where a point has no one place there.
    """
    if to not in SIDES:
        raise InputError("to", "", f"{to!r} is not one of {', '.join(SIDES)}")
    if to == "histology":
        return transform

    def back(points):
        found, converged = transform.invert_points(points)
        if not converged.all():
            why = f"folds: {np.sum(~converged)} of {converged.size} points have no one place there"
            raise InputError("--to=msi", "the displacement", why)
        return found

    return back


def transform_points(record: TransformRecord, path, out, options: ApplyOptions) -> str:
    """Moves a CSV of points; returns what was done, and where.

    Args:
        record: MSI to histology.
        path: A CSV with `x_um`, `y_um`, or a `landmarks.csv`.
        out: The CSV to write.
        options: Only `to` counts.
    """
    move = points_mover(record.transform, options.to)
    table = point_table.read_points_table(path, _other(options.to))
    moved = dataclasses.replace(table, yx_um=move(table.yx_um))
    point_table.write_points_table(out, moved)
    return f"{len(moved.rows)} points: CSV, x_um and y_um in um from {ORIGINS[options.to]}"


def transform_annotations(record: TransformRecord, path, out, options: ApplyOptions) -> str:
    """Moves QuPath annotations; returns what was done, and where.

    Args:
        record: MSI to histology.
        path: GeoJSON in pixels of the full input image.
        out: The GeoJSON to write, in pixels of the image it is for.
        options: Both pixel sizes count; the MSI's is taken from the transform where it is known.

    Raises:
        InputError: a pixel size is not known.
    """
    move = points_mover(record.transform, options.to)
    given = {"--input_um_per_px": options.input_um_per_px, "--out_um_per_px": options.out_um_per_px}
    sizes = [
        _pixel_size(record, flag, um, side)
        for (flag, um), side in zip(given.items(), (_other(options.to), options.to), strict=True)
    ]
    features = geojson.read_features(path)
    moved = geojson.map_features(
        features,
        lambda xy: (move(xy[:, ::-1] * sizes[0]) / sizes[1])[:, ::-1],
        bending=_bending(record.transform.displacement, sizes, options.to),
    )
    unit, um = UNITS[options.to], [float(each) for each in sizes[1][::-1]]
    known = {"frame": options.to, "unit": unit, "um_per_px_xy": um, "origin": ORIGINS[options.to]}
    geojson.write_features(out, moved, known)
    words = " x ".join(f"{each:g}" for each in dict.fromkeys(um))
    some = f"{len(moved)} annotation{'s' * (len(moved) != 1)}"
    return f"{some}: GeoJSON in {unit} of {words} um, from {ORIGINS[options.to]}"


def _bending(field, sizes, to: str) -> geojson.Bending | None:
    if field is None:
        return None
    steps = [np.diff(axis).min() for axis in (field.y_um, field.x_um) if len(axis) > 1]
    tolerance = BENT_TOLERANCE_PX * sizes[to == "msi"].min() / sizes[1].max()
    return geojson.Bending(EDGE_SHARE * min(steps, default=np.inf) / sizes[0].max(), tolerance)


def _pixel_size(record: TransformRecord, flag: str, um: float | None, side: str) -> np.ndarray:
    if um is not None:
        return np.full(2, float(um))
    if side == "msi" and "msi" in record.grids:
        return np.asarray(record.grids["msi"].um_per_px, np.float64)
    what = "the slide at full resolution (level 0)" if side == "histology" else "the MSI"
    raise InputError(flag, "", f"is required: the pixel size of {what}, um")


def plan_image(record: TransformRecord, picture: Picture, options: ApplyOptions) -> tuple:
    """Says what image will be drawn.

    Args:
        record: MSI to histology.
        picture: The input.
        options: How it is moved.

    Returns:
        (rows, columns) and pixel size (y, x), um.

    Raises:
        InputError: more than memory should be asked for.
    """
    extent = _extent_um(record, picture, options.to)
    size = np.full(2, options.out_um_per_px or _default_um(record, picture, options.to))
    shape = out_grid(extent, size)
    needed = shape[0] * shape[1] * picture.pixels.shape[2] * picture.pixels.itemsize
    if needed > MOST_BYTES or shape[0] * shape[1] > LIMITS.image_pixels:
        why = f"{size[0]:g} um/px would make {shape[0]} x {shape[1]} px"
        raise InputError("--out_um_per_px", "", why, "choose a larger one")
    return shape, size


def _extent_um(record: TransformRecord, picture: Picture, to: str) -> np.ndarray:
    """Far corner of the frame drawn into: of its picture where known, else of what lands there."""
    if to in record.grids:
        return record.grids[to].extent_um
    low = np.asarray(picture.origin_um, np.float64)
    far = low + np.asarray(picture.pixels.shape[:2]) * picture.um_per_px
    edge = np.stack(np.meshgrid(*np.linspace(low, far, 33).T, indexing="ij"), axis=-1)
    if to == "histology":
        return np.maximum(record.transform(edge).max(axis=(0, 1)), 1.0)
    found, converged = record.transform.invert_points(edge)
    if not converged.any():
        raise InputError("--to=msi", "the displacement", "folds all over the image")
    return np.maximum(found[converged].max(axis=0), 1.0)


def _default_um(record: TransformRecord, picture: Picture, to: str) -> float:
    if "msi" in record.grids:
        return min(record.grids["msi"].um_per_px) / 4
    return min(picture.um_per_px) / (4 if to == "histology" else 1)


def draw_image(
    transform: Transform, picture: Picture, shape, um_per_px, options: ApplyOptions
) -> np.ndarray:
    """Draws a picture in the other frame.

    Args:
        transform: MSI to histology.
        picture: The input.
        shape: (rows, columns) of the result, whose outer corner is the frame's origin.
        um_per_px: Pixel size (y, x), um.
        options: Frame and interpolation.

    Returns:
        `[h, w, C]` as `picture.pixels`; white outside RGB, 0 outside other images.
    """
    if options.to == "histology":
        box = np.zeros(2), np.asarray(shape) * um_per_px
        tolerance = 0.01 * float(np.min(picture.um_per_px))
        transform = transform.inverse(box_um=box, tolerance_um=tolerance)
    return warp_by_bands(
        picture.pixels,
        source_um_per_px=picture.um_per_px,
        out_to_source=transform.in_images(to_yx=picture.origin_um),
        out_shape=shape,
        out_um_per_px=um_per_px,
        order=ORDERS[options.interpolation],
        fill=255 if picture.channel_names is None else 0,
    )


def read_picture(
    path: str | os.PathLike, record: TransformRecord, options: ApplyOptions
) -> Picture:
    """Reads an image to be moved: OME-TIFF with all its channels, else as RGB.

    Args:
        path: The image.
        record: Where it was given none, the MSI's pixel size is taken from here.
        options: Pixel size, and which level of a pyramid suffices.

    Raises:
        InputError: unreadable, or no pixel size is known.
    """
    path = existing_file(path, "--input")
    mark = SYNTHETIC in path.name
    um = options.input_um_per_px
    if str(path).lower().endswith((".ome.tif", ".ome.tiff")) and options.to == "histology":
        image = read_ome_tiff(path, um)
        size = image.um_per_px or _msi_um(record)
        if size is None:
            raise InputError("--input_um_per_px", "", f"is required: {path} does not say it")
        rgb = image.levels[0].dtype == np.uint8 and image.levels[0].shape[2] == 3
        names = image.channel_names or tuple(map(str, range(image.levels[0].shape[2])))
        names = None if rgb and len(image.channel_names) < 2 else names
        pixels = image.levels[0]
        pixels = pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
        return Picture(pixels, size, (0.0, 0.0), names, image.synthetic or mark)
    target = options.out_um_per_px
    if target is None and "msi" in record.grids:
        target = min(record.grids["msi"].um_per_px) / 4
    slide, odd = _read_rgb(path, um, target, record if options.to == "histology" else None)
    size = (slide.um_per_px,) * 2
    return Picture(slide.pixels, size, slide.origin_um, None, mark, (*slide.warnings, *odd))


def _read_rgb(path: Path, um: float | None, target: float | None, record: TransformRecord | None):
    """Reads an RGB image and what is odd; one of the MSI that states no size has the MSI's."""
    try:
        return read_histology(path, um, target_um_per_px=target), ()
    except NoPixelSize:
        if record is None or (known := _msi_um(record)) is None:
            raise
    odd = f"states no pixel size: that of the MSI is taken, {known[0]:g} um"
    return read_histology(path, known[0], target_um_per_px=target), (odd,)


def _msi_um(record: TransformRecord) -> tuple[float, float] | None:
    return record.grids["msi"].um_per_px if "msi" in record.grids else None


def write_picture(
    path: str | os.PathLike, pixels: np.ndarray, um_per_px, picture: Picture, description: str = ""
) -> None:
    """Writes a drawn image in the format that its name asks for.

    Args:
        path: Ends as `write_image` wants it.
        pixels: `[h, w, C]` uint8 or float32.
        um_per_px: Pixel size (y, x), um.
        picture: Gives names and the mark of synthesis.
        description: Free text that the file holds.

    Raises:
        InputError: another ending, or channels in a PNG.
    """
    size = tuple(float(um) for um in um_per_px)
    marks = {"synthetic": picture.synthetic, "description": description}
    write_image(path, pixels, size, channel_names=picture.channel_names, **marks)


def _other(side: str) -> str:
    return SIDES[1 - SIDES.index(side)]


def transform_file(
    record: TransformRecord,
    source: str | os.PathLike,
    target: str | os.PathLike,
    options: ApplyOptions,
    tell: Callable[[str], object],
    warn: Callable[..., object],
) -> str:
    """Moves an image, a table of points or a GeoJSON; returns what was done, and where.

    Args:
        record: What moves it.
        source: The file.
        target: The file to write.
        options: How.
        tell: Is told how large an image will be, before it is drawn.
        warn: Is given the warnings of the transform and of an image, and the file's path.

    Raises:
        InputError: a kind of file that is not moved, or one that cannot be read.
    """
    suffix = Path(source).suffix.lower()
    folds = fold_warnings(record.transform)
    lists = {".csv": transform_points} | dict.fromkeys((".geojson", ".json"), transform_annotations)
    if suffix in lists:
        done = lists[suffix](record, source, target, options)
        warn(folds, source)
        return f"moved into the frame of the {options.to}: {done}\n{target}"
    image_writer(target)  # Refuses another ending before anything is read.
    picture = read_picture(source, record, options)
    warn([*picture.warnings, *folds], source)
    shape, um = plan_image(record, picture, options)
    tell(f"drawing {shape[0]} x {shape[1]} px at {um[1]:g} um")
    words = f"In the frame of the {options.to}: begins at {ORIGINS[options.to]}."
    pixels = draw_image(record.transform, picture, shape, um, options)
    write_picture(target, pixels, um, picture, words)
    size = " x ".join(f"{each:g}" for each in dict.fromkeys(um[::-1]))
    start = f"{shape[0]} x {shape[1]} px of {size} um, from {ORIGINS[options.to]}"
    return f"drawn in the frame of the {options.to}: {start}\n{target}"
