"""Registered sections that are finished, kept beside the output until all of them are.

A section lies in `OUT.work/sections/SAMPLE/`, whole or not at all; its record beside says what
decided it and what its files are. The output appears when the last one is done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msi2he_jax import locking
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.sources import digest_of_sources
from msi2he_jax.data.work import count_finished, make_unit
from msi2he_jax.errors import InputError
from msi2he_jax.inference.model import Model
from msi2he_jax.io_safety import atomic_folder, read_json, replace_folder, sha256, write_json
from msi2he_jax.msi.open_msi import msi_files


@dataclasses.dataclass(frozen=True)
class Finished:
    """The sections that are kept for one output.

    Attributes:
        folder: `OUT.work`.
    """

    folder: Path

    @property
    def sections(self) -> Path:
        """Where they lie."""
        return self.folder / "sections"

    def find(self, name: str, key: str) -> dict[str, Any] | None:
        """Returns the row of a section that is there, whole, and was decided by the same."""
        try:
            record = read_json(self._record(name))
            same = record["key"] == key and record["files"] == _hashes(self.sections / name)
            return record["row"] if same else None
        except (InputError, OSError, KeyError, TypeError):
            return None

    @contextlib.contextmanager
    def make(self, name: str, key: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yields a folder and a row to fill; the section is kept where that went well."""
        self._record(name).unlink(missing_ok=True)
        row: dict[str, Any] = {}
        with atomic_folder(self.sections / name, overwrite=True) as folder:
            yield folder, row
        files = _hashes(self.sections / name)
        write_json(self._record(name), {"key": key, "files": files, "row": row})

    def count(self) -> int:
        """Returns how many are kept."""
        return count_finished(self.folder)

    def words(self) -> str:
        """Says so, and what to do; nothing where none is."""
        count = self.count()
        words = f"{count} finished sections are kept in {self.folder}, the same command continues"
        return words if count else ""

    def told(self, error: InputError) -> InputError:
        """Returns a section's fault with what is kept of the others."""
        hint = "; ".join(filter(None, [error.hint, self.words()]))
        return InputError(error.path, error.field, error.why, hint)

    def hand_over(self, out: Path, names: Sequence[str]) -> None:
        """Makes the folder with the sections `names`, and what else lies there, the output."""
        for entry in self.sections.iterdir():
            if entry.is_dir() and entry.name not in names:
                shutil.rmtree(entry)
            elif entry.name.startswith("."):  # of a run that was killed while it wrote
                entry.unlink()
        replace_folder(self.sections, out)

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"


@contextlib.contextmanager
def finished_sections(out: str | os.PathLike) -> Iterator[Finished]:
    """Holds the lock of an output and yields what an earlier run finished of it.

    `OUT.work` goes once the output is there, or where nothing was finished.

    Raises:
        InputError: another process writes there, or it cannot be written.
    """
    out = Path(os.path.abspath(out))
    kept = Finished(out.with_name(f"{out.name}.work"))
    with locking.held(out, "register"):
        try:
            kept.sections.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = f"cannot be written: {error.strerror}"
            raise InputError(kept.folder, "", why, "choose a writable place") from error
        try:
            yield kept
        finally:
            if not (kept.sections.is_dir() and kept.count()):
                shutil.rmtree(kept.folder, ignore_errors=True)


def section_key(
    sample: Sample, options: dict[str, Any], model: Model | None, files: Sequence[Path | None]
) -> str:
    """Returns a digest of all that decides what is found for a section.

    Args:
        sample: The section; its measurement and slide count by size and time, landmarks by content.
        options: What was asked for, as JSON.
        model: The generator, or None.
        files: Small files that matter as well, those that are there.
    """
    small = [sample.landmarks, *files]
    large = [*msi_files(sample.imzml), sample.histology]
    content = {
        "small": [sha256(path) if path and Path(path).is_file() else None for path in small],
        "large": [_stamp(path) for path in large],
        "model": model and [model.config.to_json(), model.norm, model.dropout, _weights(model)],
        "code": _code(),
    }
    return make_unit("register", sample, content, options=options).key


@functools.cache
def _code() -> str:
    """Returns a digest of the code that registers, which is more than what units of data run."""
    return digest_of_sources(Path(__file__).parents[1], ("register",))


def _stamp(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _weights(model: Model) -> Any:
    """What the checkpoint says of its own content."""
    step = model.run_dir / "checkpoints" / model.which / str(model.step)
    return [sha256(step / "notes" / "metadata"), sha256(model.run_dir / "provenance.json")]


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(folder.iterdir())}
