"""Training data larger than memory: pairs read from their shards in the order they are drawn.

Grain reads ahead in threads. Which pair comes when is a function of seed and step alone, that of
`loader.batch_order`, so a resumed run needs no state of the reader to go on where it was.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from msi2he_jax.data.builder import open_split
from msi2he_jax.data.loader import common_grid, masks_of, padded, permutation, scaled_msi
from msi2he_jax.data.provenance import read_provenance
from msi2he_jax.errors import InputError

THREADS, AHEAD = 4, 4  # readers, and batches read ahead
_NO_END = 2**62


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """A split of N pairs that stays on the disk; one pass over it found the sizes.

    Attributes:
        examples: Random access to the pairs as stored.
        grid: Rows and columns of the common padded grid, px.
        channels: K.
        scaling: As the data's provenance has it.
        extent_px: int32 [N, 2], each pair's own (rows, columns).
        tissue_fraction: float64 [N], part of the grid that is tissue, 0 to 1.
        sample_ids: N names.
        group_ids: N names of patients.
        pad_value: 0..255, of the histology outside a pair's extent.
    """

    examples: Any
    grid: tuple[int, int]
    channels: int
    scaling: dict[str, Any]
    extent_px: np.ndarray
    tissue_fraction: np.ndarray
    sample_ids: tuple[str, ...]
    group_ids: tuple[str, ...]
    pad_value: int = 255

    def __len__(self) -> int:
        return len(self.sample_ids)

    def example(self, index: int, dtype=np.float32) -> dict[str, np.ndarray]:
        """Reads one pair as `Arrays.device_dict` would hold it, [H, W, ...] each."""
        stored = self.examples[index]
        msi = scaled_msi(stored["msi"], self.scaling)
        tissue, valid = masks_of(stored)
        return {
            "msi": padded(msi, self.grid, 0).astype(dtype),
            "histology": padded(stored["histology"], self.grid, self.pad_value),
            "tissue_mask": padded(tissue, self.grid, False),
            "valid_mask": padded(valid, self.grid, False),
            "extent_px": self.extent_px[index],
        }


def open_stored(
    data_dir: str | os.PathLike,
    split: str,
    *,
    multiple_of: int = 1,
) -> Stored:
    """Opens a split to be streamed: reads all of it once, keeps none of it.

    Args:
        data_dir: A folder written by `write_dataset`.
        split: "train", "validation" or "test".
        multiple_of: Rows and columns of the common grid are a multiple of this, px.

    Raises:
        InputError: the folder is damaged, or the split is empty.
    """
    provenance = read_provenance(data_dir)
    examples = open_split(data_dir, split)
    if not len(examples):
        raise InputError(data_dir, split, "holds no example", "choose another split")
    found = [_facts(examples[index]) for index in range(len(examples))]
    names, groups, shapes, tissue = zip(*found, strict=True)
    grid = common_grid(shapes, multiple_of)
    return Stored(
        examples=examples,
        grid=grid,
        channels=len(provenance["peaks"]["mz"]),
        scaling=provenance["scaling"],
        extent_px=np.array(shapes, np.int32),
        tissue_fraction=np.array(tissue) / np.prod(grid),
        sample_ids=names,
        group_ids=groups,
        pad_value=provenance["pad_value"],
    )


def _facts(example: dict[str, Any]) -> tuple[str, str, tuple[int, int], int]:
    """Names, shape and pixels of tissue of one pair."""
    tissue, _ = masks_of(example)
    return example["sample_id"], example["group_id"], example["msi"].shape[:2], int(tissue.sum())


class Stream:
    """Batches of a stored split, read ahead; the same as `loader.sample_batch` picks.

    Args:
        stored: The split.
        seed: Of the order.
        batch_size: B, over all processes.
        rows: Which of the B are read here; all by default.
        dtype: Of `msi`.
    """

    def __init__(
        self,
        stored: Stored,
        *,
        seed: int,
        batch_size: int,
        rows: slice = slice(None),
        dtype: Any = np.float32,
    ):
        self._stored, self._dtype = stored, dtype
        self._rows = range(batch_size)[rows]
        self._batch_size = batch_size
        self._order = functools.lru_cache(maxsize=4)(functools.partial(_order, len(stored), seed))
        self._next, self._batches = -1, iter(())

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Returns the batch of a step, counted from 0: quick for the step after the last one.

        Returns:
            What `loader.vary_batch` takes, [b, ...] each.
        """
        if step != self._next:
            self._batches = self._read_from(step)
        self._next = step + 1
        return next(self._batches)

    def _read_from(self, step: int) -> Iterator[dict[str, np.ndarray]]:
        import grain  # here, since most runs have their data in memory

        many = len(self._rows)
        places = grain.MapDataset.range(step * many, _NO_END).map(self._example)
        options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
        return iter(places.batch(many).to_iter_dataset(options))

    def _example(self, place: int) -> dict[str, np.ndarray]:
        step, row = divmod(place, len(self._rows))
        position = step * self._batch_size + self._rows[row]
        epoch, rank = divmod(position, len(self._stored))
        index = int(self._order(epoch)[rank])
        found = self._stored.example(index, self._dtype)
        return found | {"index": np.int32(index), "position": np.int32(position)}


def _order(size: int, seed: int, epoch: int) -> np.ndarray:
    """An epoch's order, computed on the host where it can be: the devices are busy."""
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        host = None
    with jax.default_device(host):
        return np.asarray(permutation(seed, epoch, size))
