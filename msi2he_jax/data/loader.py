"""Training data in memory: whole splits as arrays, and random batches drawn on the device.

Batches are a pure function of (seed, step), so a resumed run draws what it would have drawn. The
order of an epoch is `permutation(seed, epoch, size)`, which any other loader can follow.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.data import sampling
from msi2he_jax.data.augmentation import (
    Augmentation,
    draw_positions,
    enlarged,
    enlarged_sides,
    vary_msi,
)
from msi2he_jax.data.builder import read_split
from msi2he_jax.data.provenance import read_provenance
from msi2he_jax.errors import InputError
from msi2he_jax.msi.images import apply_scale

NO_AUGMENTATION = Augmentation()
_ORDER, _AUGMENT = 0, 1
_IMAGES = ("msi", "histology", "tissue_mask", "valid_mask")


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """A split of N pairs on one padded grid; padding lies below and to the right.

    Attributes:
        msi: float32 [N, H, W, K], scaled to [0, 1]; 0 where not measured.
        histology: uint8 [N, H, W, 3], sRGB; padded with the pad value.
        tissue_mask: bool [N, H, W], stained tissue where MSI was measured.
        valid_mask: bool [N, H, W], inside the pair's own extent and measured by MSI.
        view: uint8 [N, H, W, 3], the three-channel view of the MSI.
        extent_px: int32 [N, 2], each pair's own (rows, columns).
        um_per_px: float32 [N], pixel size, um.
        msi_to_histology: float64 [N, 3, 3], acting on (x, y, 1), um.
        sample_ids: N names.
        group_ids: N names of patients.
        pad_value: 0..255, of the histology outside a pair's extent.
    """

    msi: np.ndarray
    histology: np.ndarray
    tissue_mask: np.ndarray
    valid_mask: np.ndarray
    view: np.ndarray
    extent_px: np.ndarray
    um_per_px: np.ndarray
    msi_to_histology: np.ndarray
    sample_ids: tuple[str, ...]
    group_ids: tuple[str, ...]
    pad_value: int = 255

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the common grid, px."""
        return self.msi.shape[1:3]

    @property
    def channels(self) -> int:
        """K."""
        return self.msi.shape[-1]

    @property
    def inside(self) -> np.ndarray:
        """Bool [N, H, W], inside each pair's own extent: all but padding."""
        return np.stack([inside_extent(extent, self.grid) for extent in self.extent_px])

    @property
    def tissue_fraction(self) -> np.ndarray:
        """float64 [N], part of the grid that is tissue, 0 to 1."""
        return self.tissue_mask.mean(axis=(1, 2))

    def device_dict(self, dtype=np.float32) -> dict[str, np.ndarray]:
        """Returns what `sample_batch` needs, `msi` as `dtype`: put it on the device once."""
        return {
            "msi": self.msi.astype(dtype),
            "histology": self.histology,
            "tissue_mask": self.tissue_mask,
            "valid_mask": self.valid_mask,
            "extent_px": self.extent_px,
        }


def load_arrays(
    data_dir: str | os.PathLike,
    split: str,
    *,
    multiple_of: int = 1,
) -> Arrays:
    """Loads a whole split, scaled as its provenance says.

    Args:
        data_dir: A folder written by `write_dataset`.
        split: "train", "validation" or "test".
        multiple_of: Rows and columns of the common grid are a multiple of this, px; what this adds
            is padded as preprocess padded the rest.

    Raises:
        InputError: the folder is damaged, or the split is empty.
    """
    provenance = read_provenance(data_dir)
    examples = read_split(data_dir, split)
    if not examples:
        raise InputError(data_dir, split, "holds no example", "choose another split")
    shapes = [example["msi"].shape[:2] for example in examples]
    grid = common_grid(shapes, multiple_of)
    pad_value = provenance["pad_value"]
    tissue, valid = zip(*map(masks_of, examples), strict=True)
    return Arrays(
        msi=_stack((scaled_msi(e["msi"], provenance["scaling"]) for e in examples), grid, 0),
        histology=_stack((e["histology"] for e in examples), grid, pad_value),
        tissue_mask=_stack(tissue, grid, False),
        valid_mask=_stack(valid, grid, False),
        view=_stack((e["view"] for e in examples), grid, 0),
        extent_px=np.array(shapes, np.int32),
        um_per_px=np.array([example["um_per_px"] for example in examples], np.float32),
        msi_to_histology=np.stack([example["msi_to_histology"] for example in examples]),
        sample_ids=tuple(example["sample_id"] for example in examples),
        group_ids=tuple(example["group_id"] for example in examples),
        pad_value=pad_value,
    )


def common_grid(shapes: Sequence[tuple[int, int]], multiple_of: int) -> tuple[int, int]:
    """Returns rows and columns, px, that hold images of all `shapes`, as a multiple of a number."""
    rows, columns = (-(-most // multiple_of) * multiple_of for most in map(max, zip(*shapes)))
    return int(rows), int(columns)


def masks_of(example: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns tissue where MSI was measured, and where that is, bool [h, w], of a stored pair."""
    return example["tissue_mask"] & example["msi_mask"], example["msi_mask"]


def inside_extent(extent_px: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Returns where a pair of `extent_px` (rows, columns) lies on the common grid, bool [H, W]."""
    rows, columns = (np.arange(side) < own for side, own in zip(grid, extent_px, strict=True))
    return np.logical_and.outer(rows, columns)


def scaled_msi(msi: np.ndarray, scaling: dict[str, Any]) -> np.ndarray:
    """Scales stored MSI [h, w, K] to [0, 1] as a provenance says."""
    return apply_scale(msi, np.asarray(scaling["scale"]), scaling["transform"])


def padded(image: np.ndarray, grid: tuple[int, int], fill: float) -> np.ndarray:
    """Returns an image [h, w, ...] on a grid that holds it, filled below and to the right."""
    whole = np.full((*grid, *image.shape[2:]), fill, image.dtype)
    whole[: image.shape[0], : image.shape[1]] = image
    return whole


def _stack(images: Iterable[np.ndarray], grid: tuple[int, int], fill: float) -> np.ndarray:
    return np.stack([padded(image, grid, fill) for image in images])


def permutation(seed: int, epoch, size: int) -> jax.Array:
    """Returns the order in which an epoch visits the examples.

    Args:
        seed: Any integer; may be traced.
        epoch: Any integer; may be traced.
        size: Number of examples.

    Returns:
        int32 [size].
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _ORDER), epoch)
    return jax.random.permutation(key, size)


def sample_batch(
    arrays: dict[str, jax.Array],
    *,
    step,
    seed: int,
    batch_size: int,
    crop_px: int = 0,
    mirror: bool = False,
    flip: bool = False,
    rotate: bool = False,
    augmentation: Augmentation = NO_AUGMENTATION,
    pad_value: int = 255,
) -> dict[str, jax.Array]:
    """Draws a batch; pure, and fit for use inside `jax.jit` and `jax.lax.scan`.

    Args:
        arrays: `msi` [N, H, W, K] float in [0, 1] or unsigned integer (full range is 1),
            `histology` uint8 [N, H, W, 3], `tissue_mask` and `valid_mask` bool [N, H, W], and
            `extent_px` int32 [N, 2], the part of the grid that crops are taken from; any other
            array [N, ...] is handed on by its name.
        step: int32 scalar, may be traced; batch `step` holds positions step * batch_size + i of the
            epochs' permutations laid end to end.
        seed: Fixes order and augmentation.
        batch_size: B.
        crop_px: Side of a random square crop, px; 0 takes the whole grid.
        mirror: Flips columns (left and right) at random.
        flip: Flips rows and columns at random.
        rotate: Turns by a random multiple of 90 degrees; only where the result is square.
        augmentation: Random warps, which bring in what lies around a crop, and intensities.
        pad_value: 0..255, of the histology that a warp brings in from outside the grid.

    Returns:
        `msi` float [B, h, w, K] in [0, 1] (float32, or as stored if float), `image` float32
        [B, h, w, 3] in [-1, 1], `tissue_mask` and `valid_mask` bool [B, h, w], `index` int32 [B].
    """
    size = arrays["msi"].shape[0]
    index = batch_order(step, seed=seed, size=size, batch_size=batch_size)
    picked = {"index": index, "position": _positions(step, batch_size)}
    for name in arrays.keys() - {*_IMAGES, "extent_px"}:
        picked[name] = jnp.asarray(arrays[name])[index]
    how = (crop_px, (flip, flip or mirror), rotate, augmentation, pad_value)
    return _varied(arrays, index, picked, seed, how)


def vary_batch(
    batch: dict[str, jax.Array],
    *,
    seed: int,
    crop_px: int = 0,
    mirror: bool = False,
    flip: bool = False,
    rotate: bool = False,
    augmentation: Augmentation = NO_AUGMENTATION,
    pad_value: int = 255,
) -> dict[str, jax.Array]:
    """Does to a batch that was picked elsewhere what `sample_batch` would have done to it.

    Args:
        batch: As the `arrays` of `sample_batch`, [B, ...] each, with `position` int32 [B], their
            place in the epochs laid end to end, and `index` int32 [B].
        seed: As there, like all others.
        crop_px: As there.
        mirror: As there.
        flip: As there.
        rotate: As there.
        augmentation: As there.
        pad_value: As there.

    Returns:
        What `sample_batch` returns. Each example depends on itself alone, so any part of a batch
        gives that part of the result.
    """
    picked = {name: x for name, x in batch.items() if name not in (*_IMAGES, "extent_px")}
    how = (crop_px, (flip, flip or mirror), rotate, augmentation, pad_value)
    return _varied(batch, jnp.arange(batch["msi"].shape[0]), picked, seed, how)


def _varied(arrays, rows, picked: dict, seed, how: tuple) -> dict[str, jax.Array]:
    """Takes `rows` of `arrays`, each varied by the key of its position."""
    key, augmentation = jax.random.fold_in(jax.random.key(seed), _AUGMENT), how[3]
    keys = jax.vmap(lambda each: jax.random.fold_in(key, each))(picked["position"])
    images = [arrays[name] for name in _IMAGES]
    pick = functools.partial(_augmented, images, jnp.asarray(arrays["extent_px"]), *how)
    msi, histology, tissue, valid = jax.vmap(pick)(rows, keys)
    msi = _unit(msi)
    if augmentation.varies:
        msi = jax.vmap(lambda *one: vary_msi(*one, augmentation))(keys, msi, valid)
    return {name: x for name, x in picked.items() if name != "position"} | {
        "msi": msi,
        "image": histology.astype(jnp.float32) / 127.5 - 1.0,
        "tissue_mask": tissue,
        "valid_mask": valid,
    }


def _positions(step, batch_size: int) -> jax.Array:
    return jnp.asarray(step, jnp.int32) * batch_size + jnp.arange(batch_size)


def batch_order(step, *, seed: int, size: int, batch_size: int) -> jax.Array:
    """Returns which examples a batch holds: looked up in the few epochs that it can touch.

    Args:
        step: int32 scalar, may be traced; counted from 0.
        seed: Any integer; may be traced.
        size: Number of examples.
        batch_size: B.

    Returns:
        int32 [B], 0..size - 1.
    """
    position = _positions(step, batch_size)
    first = position[0] // size
    epochs = first + jnp.arange((batch_size - 1) // size + 2)
    orders = jax.vmap(lambda epoch: permutation(seed, epoch, size))(epochs)
    return orders[position // size - first, position % size]


def _augmented(
    arrays, extents, crop_px, flip, rotate, augmentation, pad_value, index, key
) -> list[jax.Array]:
    """Enlarges, crops or warps, turns and flips one example, all its arrays alike."""
    height, width = arrays[0].shape[1:3]
    crop, extent = (min(crop_px or height, height), min(crop_px or width, width)), extents[index]
    crop_key, turn_key, flip_key = jax.random.split(key, 3)
    part = augmentation.jitter
    if part:
        sides = enlarged_sides((height, width), part)
        own = jnp.round(extent * (1.0 + part)).astype(jnp.int32)
        # Crops of the old size come from the whole frame: its padding is part of pix2pix' images.
        # Smaller ones come from the pair's own extent, as without jitter.
        extent = jnp.minimum(own, jnp.array(sides)) if crop_px else jnp.array(sides)
    room, start = jnp.maximum(extent - jnp.array(crop), 0), jnp.zeros(2, jnp.int32)
    if crop_px or part:
        start = jax.random.randint(crop_key, (2,), 0, room + 1)
    turns = jnp.array(0)
    if rotate and crop[0] == crop[1]:
        turns = jax.random.randint(turn_key, (), 0, 4)
    flips = jax.random.bernoulli(flip_key, shape=(2,)) & jnp.array(flip)
    if augmentation.warps:
        centre = start + 0.5 * (jnp.minimum(jnp.array(crop), extent) - 1)
        where = draw_positions(key, augmentation, crop, start, centre)
        parts = _warped(_one(arrays, index, part), where, pad_value)
    elif part:
        parts = [enlarged(image, part, start, crop) for image in _one(arrays, index)]
    else:
        parts = [_crop(array, index, start, crop) for array in arrays]
    return [_turned(part, turns, flips, rotate) for part in parts]


def _one(arrays, index, part: float = 0.0) -> list[jax.Array]:
    """One example, MSI in [0, 1] first; enlarged by a part."""
    msi, *others = (array[index] for array in arrays)
    images = [_unit(msi), *others]
    return [enlarged(image, part) for image in images] if part else images


def _warped(images, where: jax.Array, pad_value: int) -> list[jax.Array]:
    """One example read at `where` [h, w, 2]; beyond the grid lies what the loader pads with."""
    msi, histology, *masks = images
    filled = (msi, 0.0), (histology.astype(jnp.float32), float(pad_value))
    warped = [sampling.bilinear(image, where, fill) for image, fill in filled]
    return warped + [sampling.nearest(mask, where, False) for mask in masks]


def _crop(array: jax.Array, index, start: jax.Array, crop: tuple[int, int]) -> jax.Array:
    rest = array.shape[3:]
    origin = (index, start[0], start[1], *(0 for _ in rest))
    return jax.lax.dynamic_slice(array, origin, (1, *crop, *rest))[0]


def _turned(part: jax.Array, turns: jax.Array, flips: jax.Array, rotate: bool) -> jax.Array:
    """Rotates by `turns` * 90 degrees, then flips: one transposition and two flips at most."""
    if rotate and part.shape[0] == part.shape[1]:
        part = jnp.where(turns % 2 == 1, jnp.swapaxes(part, 0, 1), part)
    upside = ((turns == 1) | (turns == 2)) ^ flips[0]
    mirror = ((turns == 2) | (turns == 3)) ^ flips[1]
    part = jnp.where(upside, part[::-1], part)
    return jnp.where(mirror, part[:, ::-1], part)


def _unit(msi: jax.Array) -> jax.Array:
    if jnp.issubdtype(msi.dtype, jnp.integer):
        return msi.astype(jnp.float32) / jnp.iinfo(msi.dtype).max
    return msi
