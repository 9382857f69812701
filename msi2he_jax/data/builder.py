"""Writes pairs as a TFDS folder of ArrayRecord shards and reads them back; no TensorFlow.

Tensors are stored as raw bytes and images as PNG bytes, since those are what TFDS can encode and
decode without TensorFlow. A folder is whole or absent, and checked before it is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.data.dataset_files import IMAGES, NAME, VERSION, check_dataset
from msi2he_jax.data.provenance import content_digest, peaks_of
from msi2he_jax.data.split import SPLITS
from msi2he_jax.errors import InputError
from msi2he_jax.histology import decode_png, png_bytes
from msi2he_jax.io_safety import (
    atomic_folder,
    sha256,
    write_hashes,
    write_json,
)
from msi2he_jax.msi.peak_list import write_peak_list

MASKS = ("msi_mask", "tissue_mask")

Examples = Mapping[str, Callable[[], Iterable[dict[str, Any]]]]


def write_dataset(
    out_dir: str | os.PathLike,
    examples: Examples,
    provenance: dict[str, Any],
    *,
    finish: Callable[[], None] = lambda: None,
    overwrite: bool = False,
) -> None:
    """Writes a data set; the folder appears when all of it is on the disk.

    Args:
        out_dir: The folder to make.
        examples: For each split a function that yields examples: `sample_id`, `group_id` str;
            `msi` float32 [H, W, K]; `histology` and `view` uint8 [H, W, 3]; `msi_mask` and
            `tissue_mask` bool [H, W]; `msi_to_histology` float64 [3, 3]; `um_per_px` float.
        provenance: Written last, so that what the functions add to it is kept; `counts`, `shards`
            and `content_sha256` are added here. Must hold `peaks` with K `mz`.
        finish: Called after the last example and before the provenance is written.
        overwrite: Replaces what is in the folder.

    Raises:
        InputError: the folder is not empty, cannot be written, or no example was yielded.
    """
    out_dir = Path(out_dir)
    with atomic_folder(out_dir, overwrite=overwrite) as folder:
        digests: dict[str, list[str]] = {split: [] for split in SPLITS}
        written = [split for split in SPLITS if split in examples]
        channels = len(provenance["peaks"]["mz"])
        encoded = {split: _encoded(examples[split](), digests[split]) for split in written}
        filled = _without_empty(encoded)
        if not filled:
            raise InputError(out_dir, "", "would hold no example")
        _build(folder, filled, channels)
        finish()
        counts = {split: len(found) for split, found in digests.items()}
        shards = {path.name: sha256(path) for path in sorted(folder.glob("*.array_record*"))}
        everything = "".join("".join(found) for found in digests.values())
        content = hashlib.sha256(everything.encode()).hexdigest()
        record = {"counts": counts, "content_sha256": content, "shards": shards}
        provenance.update(record)
        write_peak_list(
            folder / "peaks.csv", peaks_of(provenance), provenance.get("peak_names", ())
        )
        write_json(folder / "provenance.json", provenance)
        write_hashes(folder)


def _encoded(examples: Iterable[dict], digests: list[str]) -> Iterator[dict]:
    """Turns arrays into what TFDS stores, and keeps the digest of each example's content."""
    for example in examples:
        digests.append(content_digest(example))
        images = {name: png_bytes(example[name]) for name in IMAGES}
        yield example | images | {"um_per_px": np.float32(example["um_per_px"])}


def _without_empty(examples: dict[str, Iterator[dict]]) -> dict[str, Iterator[dict]]:
    """Leaves out splits without examples, which TFDS refuses; the first of each is drawn here."""
    heads = {split: next(each, None) for split, each in examples.items()}
    return {
        split: itertools.chain([head], examples[split])
        for split, head in heads.items()
        if head is not None
    }


def _build(folder: Path, examples: dict[str, Iterator[dict]], channels: int) -> None:
    """Lets TFDS write its files, then brings them to `folder` itself."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    builder = _builder_class(tfds, examples, channels)(data_dir=folder / "build")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints; what is said is the verb's.
        try:
            builder.download_and_prepare(file_format="array_record", download_config=config)
        except RuntimeError as error:
            raise _not_written(folder, error) or error from error
    for path in (folder / "build" / NAME / VERSION).iterdir():
        os.replace(path, folder / path.name)
    shutil.rmtree(folder / "build")


def _not_written(folder: Path, error: RuntimeError) -> InputError | None:
    """Returns what to raise where the library says that it could not write; None otherwise."""
    why = re.search(r"write\(\) failed: ([^;]+)", str(error))
    hint = "what was there is kept; make room and run again"
    return InputError(folder, "", f"cannot be written: {why[1]}", hint) if why else None


def _builder_class(tfds, examples: dict[str, Iterator[dict]], channels: int) -> type:
    """Makes the TFDS builder here, so that importing this module does not import TFDS."""
    with tfds.core.registered.skip_registration():

        class Pairs(tfds.core.GeneratorBasedBuilder):
            """Pairs of MSI and H&E on one grid."""

            name = NAME
            VERSION = tfds.core.Version(VERSION)
            pkg_dir_path = Path(__file__).parent

            def _info(self):
                features = _features(tfds, channels)
                return tfds.core.DatasetInfo(
                    builder=self, features=features, disable_shuffling=True
                )

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(split) for split in examples}

            def _generate_examples(self, split):
                yield from enumerate(examples[split])

    return Pairs


def _features(tfds, channels: int):
    """The stored fields; `Encoding.BYTES` is 11 times faster here than the default."""
    raw = tfds.features.Encoding.BYTES
    images = {
        name: tfds.features.Image(shape=(None, None, depth), encoding_format="png")
        for name, depth in IMAGES.items()
    }
    tensors = {
        "msi": tfds.features.Tensor(shape=(None, None, channels), dtype=np.float32, encoding=raw),
        "msi_to_histology": tfds.features.Tensor(shape=(3, 3), dtype=np.float64, encoding=raw),
        "um_per_px": tfds.features.Scalar(dtype=np.float32),
    }
    texts = {name: tfds.features.Text() for name in ("sample_id", "group_id")}
    return tfds.features.FeaturesDict({**texts, **tensors, **images})


def read_split(data_dir: str | os.PathLike, split: str) -> list[dict[str, Any]]:
    """Reads all examples of a split.

    Args:
        data_dir: A folder written by `write_dataset`.
        split: "train", "validation" or "test".

    Returns:
        Dicts as given to `write_dataset`, in the same order; empty where the split is.

    Raises:
        InputError: not such a folder, an unknown split, or files that are damaged or exchanged.
    """
    return list(iterate_split(data_dir, split))


def iterate_split(data_dir: str | os.PathLike, split: str) -> Iterator[dict[str, Any]]:
    """Yields the examples of a split one by one; see `read_split`."""
    examples = open_split(data_dir, split)
    yield from (examples[index] for index in range(len(examples)))


@dataclasses.dataclass(frozen=True, eq=False)
class StoredExamples:
    """The examples of a split, each decoded when it is asked for, from any thread.

    Attributes:
        data_dir: The data set's folder.
        source: Their TFDS source; None where there are none.
    """

    data_dir: Path
    source: Any = None

    def __len__(self) -> int:
        return 0 if self.source is None else len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns an example as it was given to `write_dataset`; InputError where it is none."""
        try:
            return _decoded(self.source[index])
        except InputError:
            raise
        except Exception as error:  # TFDS raises what its parsers raise: it is no such record.
            raise _unreadable(self.data_dir, f"example {index}", error) from error


def open_split(data_dir: str | os.PathLike, split: str) -> StoredExamples:
    """Checks a split's files, all of them, and opens it; raises as `read_split` does."""
    if split not in SPLITS:
        raise InputError(data_dir, "split", f"is {split!r}", f"one of {', '.join(SPLITS)}")
    count = check_dataset(data_dir, split)["counts"][split]
    if not count:
        return StoredExamples(Path(data_dir))
    try:
        source = _source(Path(data_dir), split)
    except Exception as error:  # TFDS raises what its parsers raise
        raise _unreadable(data_dir, split, error) from error
    if len(source) != count:
        why = f"holds {len(source)} examples of {split}, provenance.json says {count}"
        raise InputError(data_dir, split, why, "run preprocess again")
    return StoredExamples(Path(data_dir), source)


def _unreadable(data_dir: str | os.PathLike, field: str, error: Exception) -> InputError:
    said = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    return InputError(data_dir, field, f"cannot be read: {said}", "run preprocess again")


def _source(data_dir: Path, split: str):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(data_dir)
    skip = {name: tfds.decode.SkipDecoding() for name in IMAGES}
    return builder.as_data_source(split, decoders=skip)


def _decoded(stored: dict[str, Any]) -> dict[str, Any]:
    example = dict(stored)
    for name in ("sample_id", "group_id"):
        value = example[name]
        example[name] = value.decode() if isinstance(value, bytes) else str(value)
    for name in IMAGES:
        example[name] = decode_png(example[name])
    for name in MASKS:
        example[name] = example[name] > 0
    return example
