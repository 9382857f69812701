"""Moving any file through a transform: an image, a list of points, or QuPath annotations."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.histology import read_histology
from msi2he_jax.interop.ome_tiff import SYNTHETIC, read_ome_tiff, write_ome_tiff
from msi2he_jax.interop.png import write_png
from msi2he_jax.io_safety import LIMITS, existing_file
from msi2he_jax.registration import fields, geojson, point_table, transforms
from msi2he_jax.registration.export import Transform
from msi2he_jax.registration.warping import out_grid, warp_by_bands

SIDES = ("msi", "histology")
IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".svs", ".btf", ".tf8")
WRITTEN = (".ome.tif", ".ome.tiff", ".png")
ORDERS = {"nearest": 0, "linear": 1}
MOST_BYTES = 8 * 2**30
# A QuPath edge is divided to this share of the field's own spacing before it is bent.
EDGE_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class Options:
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
    """

    pixels: np.ndarray
    um_per_px: tuple[float, float]
    origin_um: tuple[float, float]
    channel_names: tuple[str, ...] | None
    synthetic: bool


def points_mover(transform: Transform, to: str):
    """Returns the function that takes points `[..., 2]` (y, x) um into a frame.

    Args:
        transform: MSI to histology.
        to: `msi` or `histology`.

    Raises:
        InputError: an unknown frame.
    """
    if to not in SIDES:
        raise InputError("to", "", f"{to!r} is not one of {', '.join(SIDES)}")
    move = transforms.apply_transform if to == "histology" else transforms.invert_points
    return lambda points: move(transform.matrix, transform.displacement, points)


def carry_points(transform: Transform, path, out, options: Options) -> str:
    """Moves a CSV of points; returns what was done, in words.

    Args:
        transform: MSI to histology.
        path: A CSV with `x_um`, `y_um`, or a `landmarks.csv`.
        out: The CSV to write.
        options: Only `to` counts.
    """
    move = points_mover(transform, options.to)
    table = point_table.read_points_table(path, _other(options.to))
    moved = dataclasses.replace(table, yx_um=move(table.yx_um))
    point_table.write_points_table(out, moved)
    return f"{len(moved.rows)} points"


def carry_geojson(transform: Transform, path, out, options: Options) -> str:
    """Moves QuPath annotations; returns what was done, in words.

    Args:
        transform: MSI to histology.
        path: GeoJSON in pixels of the full input image.
        out: The GeoJSON to write, in pixels of the image it is for.
        options: Both pixel sizes count; the MSI's is taken from the transform where it is known.

    Raises:
        InputError: a pixel size is not known.
    """
    move = points_mover(transform, options.to)
    given = {"--input_um_per_px": options.input_um_per_px, "--out_um_per_px": options.out_um_per_px}
    sizes = [
        _pixel_size(transform, flag, um, side)
        for (flag, um), side in zip(given.items(), (_other(options.to), options.to), strict=True)
    ]
    features = geojson.read_features(path)
    longest = None
    if transform.displacement is not None:
        step = min(np.diff(axis).min() for axis in _axes(transform.displacement))
        longest = EDGE_SHARE * step / sizes[0].max()
    moved = geojson.map_features(
        features,
        lambda xy: (move(xy[:, ::-1] * sizes[0]) / sizes[1])[:, ::-1],
        longest_px=longest,
    )
    geojson.write_features(out, moved)
    return f"{len(moved)} annotations"


def _axes(field):
    return [axis for axis in (field.y_um, field.x_um) if len(axis) > 1]


def _pixel_size(transform: Transform, flag: str, um: float | None, side: str) -> np.ndarray:
    if um is not None:
        return np.full(2, float(um))
    if side == "msi" and "msi" in transform.grids:
        return np.asarray(transform.grids["msi"].um_per_px, np.float64)
    what = "the slide at full resolution (level 0)" if side == "histology" else "the MSI"
    raise InputError(flag, "", f"is required: the pixel size of {what}, um")


def plan_image(transform: Transform, picture: Picture, options: Options) -> tuple:
    """Says what image will be drawn.

    Args:
        transform: MSI to histology.
        picture: The input.
        options: How it is moved.

    Returns:
        (rows, columns) and pixel size (y, x), um.

    Raises:
        InputError: more than memory should be asked for.
    """
    extent = _extent_um(transform, picture, options.to)
    size = np.full(2, options.out_um_per_px or _default_um(transform, picture, options.to))
    shape = out_grid(extent, size)
    needed = shape[0] * shape[1] * picture.pixels.shape[2] * picture.pixels.itemsize
    if needed > MOST_BYTES or shape[0] * shape[1] > LIMITS.image_pixels:
        why = f"{size[0]:g} um/px would make {shape[0]} x {shape[1]} px"
        raise InputError("--out_um_per_px", "", why, "choose a larger one")
    return shape, size


def _extent_um(transform: Transform, picture: Picture, to: str) -> np.ndarray:
    """Far corner of the frame drawn into: of its picture where known, else of what lands there."""
    if to in transform.grids:
        return transform.grids[to].extent_um
    low = np.asarray(picture.origin_um, np.float64)
    far = low + np.asarray(picture.pixels.shape[:2]) * picture.um_per_px
    edge = np.stack(np.meshgrid(*np.linspace(low, far, 33).T, indexing="ij"), axis=-1)
    return np.maximum(points_mover(transform, to)(edge).max(axis=(0, 1)), 1.0)


def _default_um(transform: Transform, picture: Picture, to: str) -> float:
    if "msi" in transform.grids:
        return min(transform.grids["msi"].um_per_px) / 4
    return min(picture.um_per_px) / (4 if to == "histology" else 1)


def draw_image(
    transform: Transform, picture: Picture, shape, um_per_px, options: Options
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
    matrix, field = transform.matrix, transform.displacement
    if options.to == "histology":
        box = np.zeros(2), np.asarray(shape) * um_per_px
        tolerance = 0.01 * float(np.min(picture.um_per_px))
        matrix, field = fields.inverse(matrix, field, box_um=box, tolerance_um=tolerance)
    into = transforms.from_parts(np.eye(2), -np.asarray(picture.origin_um, np.float64))
    return warp_by_bands(
        picture.pixels,
        source_um_per_px=picture.um_per_px,
        matrix_out_to_source=transforms.compose(into, matrix),
        displacement=field,
        out_shape=shape,
        out_um_per_px=um_per_px,
        order=ORDERS[options.interpolation],
        fill=255 if picture.channel_names is None else 0,
    )


def read_picture(path: str | os.PathLike, transform: Transform, options: Options) -> Picture:
    """Reads an image to be moved: OME-TIFF with all its channels, else as RGB.

    Args:
        path: The image.
        transform: Where it was given none, the MSI's pixel size is taken from here.
        options: Pixel size, and which level of a pyramid suffices.

    Raises:
        InputError: unreadable, or no pixel size is known.
    """
    path = existing_file(path, "--input")
    mark = SYNTHETIC in path.name
    um = options.input_um_per_px
    if str(path).lower().endswith((".ome.tif", ".ome.tiff")) and options.to == "histology":
        image = read_ome_tiff(path)
        size = (um, um) if um else image.um_per_px or _msi_um(transform)
        if size is None:
            raise InputError("--input_um_per_px", "", f"is required: {path} does not say it")
        rgb = image.levels[0].dtype == np.uint8 and image.levels[0].shape[2] == 3
        names = image.channel_names or tuple(map(str, range(image.levels[0].shape[2])))
        names = None if rgb and len(image.channel_names) < 2 else names
        pixels = image.levels[0]
        pixels = pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
        return Picture(pixels, size, (0.0, 0.0), names, image.synthetic or mark)
    if um is None and options.to == "histology":
        um = (_msi_um(transform) or (None, None))[0]
    target = options.out_um_per_px
    if target is None and "msi" in transform.grids:
        target = min(transform.grids["msi"].um_per_px) / 4
    slide = read_histology(path, um, target_um_per_px=target)
    return Picture(slide.pixels, (slide.um_per_px,) * 2, slide.origin_um, None, mark)


def _msi_um(transform: Transform) -> tuple[float, float] | None:
    return transform.grids["msi"].um_per_px if "msi" in transform.grids else None


def write_picture(path: str | os.PathLike, pixels: np.ndarray, um_per_px, picture: Picture) -> None:
    """Writes a drawn image as OME-TIFF, or PNG where it is RGB.

    Args:
        path: Ends in one of `WRITTEN`.
        pixels: `[h, w, C]` uint8 or float32.
        um_per_px: Pixel size (y, x), um.
        picture: Gives names and the mark of synthesis.

    Raises:
        InputError: another ending, or channels in a PNG.
    """
    check_written(path)
    if Path(path).suffix.lower() == ".png":
        if picture.channel_names is not None:
            raise InputError(path, "--out", "a PNG holds RGB only", "write .ome.tif")
        write_png(path, pixels, um_per_px=float(um_per_px[1]), synthetic=picture.synthetic)
        return
    names, size = picture.channel_names, tuple(float(um) for um in um_per_px)
    write_ome_tiff(path, pixels, um_per_px=size, channel_names=names, synthetic=picture.synthetic)


def check_written(path: str | os.PathLike) -> None:
    """Refuses an image name that we do not write.

    Args:
        path: The file to be written.

    Raises:
        InputError: it does not end in one of `WRITTEN`.
    """
    if not str(path).lower().endswith(WRITTEN):
        raise InputError(path, "--out", f"must end in {', '.join(WRITTEN)}")


def _other(side: str) -> str:
    return SIDES[1 - SIDES.index(side)]
