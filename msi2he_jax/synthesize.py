"""Applies a trained model to a data set or to a new imzML: synthetic H&E at the right size.

    python -m msi2he_jax.synthesize --run=RUN --data=DIR --out=DIR [--split=test|train|...|all]
    python -m msi2he_jax.synthesize --run=RUN --imzml=FILE --out=DIR

Writes SAMPLE_SYNTHETIC.png, SAMPLE_SYNTHETIC.ome.tiff (pyramid, um/px) and SAMPLE_SYNTHETIC.json
(what they were made of); with --samples or --ensemble also SAMPLE_SYNTHETIC_spread.npy and .png:
how far images with dropout drawn anew, or by other runs, differ at each pixel. A new imzML
passes through the same peaks, mass axis, grid and scaling as the training data did; one that cannot
be treated so is refused. Images larger than a tile are made of tiles that overlap and are blended.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from msi2he_jax import cli, progress
from msi2he_jax.errors import InputError

FLAGS = cli.new_flags()
flags.DEFINE_string("run", None, "Folder of the trained run.", flag_values=FLAGS)
flags.DEFINE_string("imzml", None, "A new imzML file.", flag_values=FLAGS)
flags.DEFINE_string("data", None, "Folder of a data set.", flag_values=FLAGS)
flags.DEFINE_string("out", None, "Folder to write to.", flag_values=FLAGS)
flags.DEFINE_enum(
    "split",
    "test",
    ["train", "validation", "test", "all"],
    "With --data: which part of it.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "which", "best", ["best", "latest"], "Checkpoint: best by validation.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "norm",
    None,
    ["batch", "running"],
    "Statistics to normalise with; default: as the run's configuration says.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "tile_px",
    0,
    "Side of a tile, px; 0 = the size of the training images, 256 at least.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("overlap_px", 64, "Least overlap of tiles, px.", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 4, "Tiles synthesised at once.", flag_values=FLAGS)
flags.DEFINE_float(
    "msi_um_per_px",
    None,
    "With --imzml: its pixel size, um; default: as the file says.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "msi_um_per_px_y", None, "The same along y; default: as along x.", flag_values=FLAGS
)
flags.DEFINE_boolean(
    "force",
    False,
    "With --imzml: go on where spectrum type, polarity or m/z range differ.",
    flag_values=FLAGS,
)

flags.DEFINE_integer(
    "samples", 0, "Paintings with dropout whose spread is written, 2 or more.", flag_values=FLAGS
)
flags.DEFINE_list(
    "ensemble", [], "Runs on the same data whose spread is written.", flag_values=FLAGS
)

IMAGES = (".png", ".ome.tiff")  # Each image is written as all of these.
SMALLEST_TILE_PX = 256


def run(values: flags.FlagValues, args: list[str]) -> None:
    """Synthesises every sample asked for and writes three files of each."""
    cli.no_positional(args)
    _check(values)
    from msi2he_jax import locking
    from msi2he_jax.inference import load_model, prefetch

    model = load_model(values.run, values.which, norm=values.norm)
    cli.warn(model.warnings)
    tile_px = values.tile_px or training_size_px(model)
    if values.overlap_px >= tile_px:
        why = f"is {values.overlap_px}, must be below the tile's {tile_px} px"
        raise InputError("--overlap_px", "", why)
    compared = _compared(values, model)
    count, sources = _sources(values, model)
    # A lock for each section and not for the folder: jobs that share a folder are usual.
    written: list[list[Path]] = []
    names = []
    with (
        contextlib.ExitStack() as locks,
        cli.keeping(lambda: f"{len(written)} sections are written" if written else ""),
        prefetch.written_behind(written.append) as submit,
    ):
        for index, source in enumerate(prefetch.read_ahead(sources)):
            if count > 1:  # of one alone the tiles are counted
                progress.tell("section", index, count, source["sample_id"])
            stem = _file_stem(values.out, source["sample_id"])
            locks.enter_context(locking.held(stem, "synthesize"))
            submit(_write, *_painted(values, model, source, tile_px, compared))
            names.append(source["sample_id"])
    cli.print_written(values.out, [path for paths in written for path in paths], names)


def _compared(values: flags.FlagValues, model) -> list:
    """Returns the generators whose images are compared; none where it is not asked for."""
    if not (values.samples or values.ensemble):
        return []
    from msi2he_jax.inference import load_model
    from msi2he_jax.inference.spread import compared_generators

    others = [load_model(run, values.which, norm=values.norm) for run in values.ensemble]
    cli.warn(line for each in others for line in each.warnings)
    return compared_generators(model, values.samples, others)


def _check(values: flags.FlagValues) -> None:
    """Refuses flags that do not go together, before anything slow."""
    cli.require(values, "run", "out")
    if bool(values.imzml) == bool(values.data):
        why = "both are given, one is wanted" if values.imzml else "one of them is required"
        raise InputError("--imzml, --data", "", why, "--help explains them")
    cli.require_range(values, "tile_px", 0, 65_536)
    cli.require_range(values, "overlap_px", 0, 65_536)
    cli.require_range(values, "batch_size", 1, 4096)
    cli.require_range(values, "samples", 0, 1000)
    for name in ("msi_um_per_px", "msi_um_per_px_y"):
        cli.require_range(values, name, 1e-3, 1e5)
    if values.imzml is None and (values.force or values.msi_um_per_px or values.msi_um_per_px_y):
        raise InputError("--force, --msi_um_per_px", "", "go with --imzml only")
    if Path(values.out).exists() and not Path(values.out).is_dir():
        raise InputError(values.out, "--out", "is a file, a folder was expected")


def training_size_px(model) -> int:
    """Returns the longest side the model was trained on, in pixels, `SMALLEST_TILE_PX` at least."""
    if model.config.data.crop_px:
        return max(SMALLEST_TILE_PX, model.config.data.crop_px)
    samples = model.provenance.get("samples", [])
    sides = [side for sample in samples for side in sample.get("shape", [])]
    return max([SMALLEST_TILE_PX, *sides])


def _sources(values: flags.FlagValues, model) -> tuple[int, Iterator[dict]]:
    """Returns how many sections will be synthesised, and of what."""
    if values.imzml:
        return 1, _from_imzml(values, model)
    from msi2he_jax.data.provenance import warnings_of

    provenance = _matching_provenance(values.data, model)
    cli.warn(warnings_of(provenance))
    counts = {split: count for split, count in provenance["counts"].items() if count}
    if values.split != "all":
        counts = {values.split: counts.get(values.split, 0)}
    return sum(counts.values()), _from_data(values, provenance, list(counts))


def _from_imzml(values: flags.FlagValues, model) -> Iterator[dict]:
    from msi2he_jax.inference.new_data import read_msi
    from msi2he_jax.io_safety import sha256

    path = Path(values.imzml)
    sizes = {"um_per_px": values.msi_um_per_px, "um_per_px_y": values.msi_um_per_px_y}
    with cli.asking_for("--msi_um_per_px", "msi_um_per_px"):
        arrays = read_msi(path, model.provenance, **sizes, force=values.force)
    cli.warn(arrays.warnings, path.stem)
    yield {
        "sample_id": path.stem,
        "msi": arrays.msi,
        "extent_px": arrays.mask.shape,
        "um_per_px": arrays.um_per_px,
        "source": {
            "imzml": str(path),
            "imzml_sha256": sha256(path),
            "msi_um_per_px_yx": list(arrays.native_um),
            "grid_origin_um_yx": list(arrays.origin_um),
            "forced": values.force,
            "warnings": list(arrays.warnings),
        },
    }


def _from_data(values: flags.FlagValues, provenance: dict, splits: list[str]) -> Iterator[dict]:
    from msi2he_jax.data.loader import load_arrays

    for split in splits:
        arrays = load_arrays(values.data, split)
        for index, sample_id in enumerate(arrays.sample_ids):
            # The padded frame goes through, as in evaluate, so that both see the same image.
            yield {
                "sample_id": sample_id,
                "msi": arrays.msi[index],
                "extent_px": tuple(int(side) for side in arrays.extent_px[index]),
                "um_per_px": float(arrays.um_per_px[index]),
                "source": {
                    "data": str(values.data),
                    "split": split,
                    "content_sha256": provenance.get("content_sha256"),
                },
            }


def _matching_provenance(data: str, model) -> dict:
    """Refuses a data set whose channels mean something else than the model's."""
    from msi2he_jax.data.provenance import read_provenance
    from msi2he_jax.io_safety import existing_folder

    provenance = read_provenance(existing_folder(data, "--data"))
    for key in ("peaks", "scaling"):
        if provenance[key] != model.provenance[key]:
            why = f"differ from those of {model.run_dir}: its channels mean something else"
            hint = "name the data set the run was trained on, or use --imzml"
            raise InputError(Path(data) / "provenance.json", key, why, hint)
    return provenance


def _painted(values: flags.FlagValues, model, source: dict, tile_px: int, compared: list) -> tuple:
    """Paints a section; returns what `_write` takes: all that needs the device is done here."""
    from msi2he_jax.inference import synthesize_tiled, to_uint8
    from msi2he_jax.inference.spread import estimate_spread

    stem = _file_stem(values.out, source["sample_id"])
    options = {"tile_px": tile_px, "overlap_px": values.overlap_px}
    tiling = options | {"batch_size": values.batch_size}
    if values.imzml:
        tiling["on_tiles"] = functools.partial(progress.tell, "tile")
    image = synthesize_tiled(model.apply, source["msi"], **tiling)
    rows, columns = source["extent_px"]
    pixels = to_uint8(image[:rows, :columns])
    tiled = max(source["msi"].shape[:2]) > tile_px
    record = _record(model, source, pixels.shape, tiled, options)
    spread = None
    if compared:
        spread = estimate_spread(compared, source["msi"], **tiling)[:rows, :columns]
        said = {"samples": values.samples, "ensemble": values.ensemble}
        record["spread"] = {"images": len(compared), **said, **_extent_of(spread)}
    words = f"Run {model.config.name}, step {model.step}."
    return stem, pixels, record, spread, words


def _extent_of(spread) -> dict:
    return {"mean": float(spread.mean()), "most": float(spread.max()), "unit": "of full range"}


def _write(stem: Path, pixels, record: dict, spread, words: str) -> list[Path]:
    """Writes a section's files, the JSON file last; returns their paths."""
    from msi2he_jax.interop.write_image import write_image
    from msi2he_jax.io_safety import write_json

    marks = {"um_per_px": record["um_per_px"], "synthetic": True, "description": words}
    for end in IMAGES:
        write_image(f"{stem}{end}", pixels, **marks)
    if spread is not None:
        _write_spread(stem, spread, record)
    write_json(f"{stem}.json", record)
    ends = [*IMAGES, ".json"]
    ends += ["_spread.npy", "_spread.png"] if spread is not None else []
    return [Path(f"{stem}{end}") for end in ends]


def _write_spread(stem: Path, spread, record: dict) -> None:
    """Writes how far the images differ, as numbers and as a picture."""
    import numpy as np

    from msi2he_jax.interop.write_image import write_image
    from msi2he_jax.io_safety import atomic_file

    with atomic_file(f"{stem}_spread.npy") as temporary, open(temporary, "wb") as file:
        np.save(file, spread)
    most, many = record["spread"]["most"], record["spread"]["images"]
    shade = np.rint(255 * spread / max(most, 1e-6)).astype(np.uint8)
    marks = {"um_per_px": record["um_per_px"], "synthetic": True}
    marks["description"] = f"Spread of {many} images; white is {most:.4f} of full range."
    write_image(f"{stem}_spread.png", np.repeat(shade[..., None], 3, axis=-1), **marks)


def _file_stem(out: str, sample_id: str) -> Path:
    """Returns the path of a sample's files, refusing a name that leads elsewhere."""
    if not sample_id or Path(sample_id).name != sample_id:
        raise InputError(out, "sample_id", f"{sample_id!r} cannot be a file's name")
    return Path(out) / f"{sample_id}_SYNTHETIC"


def _record(model, source: dict, shape, tiled: bool, options: dict) -> dict:
    """Returns what the JSON file says: enough to make the image again."""
    from msi2he_jax.data.provenance import versions
    from msi2he_jax.metrics.results import versions as compute_versions

    return {
        "synthetic": True,
        "words": "Made by a network from mass spectrometry images. Not a stained section.",
        "sample_id": source["sample_id"],
        "run": str(model.run_dir),
        "model": str(model.config.name),
        "checkpoint": {"which": model.which, "step": int(model.step)},
        "source": source["source"],
        "simulated": model.provenance.get("simulated"),
        "shape_px": list(shape[:2]),
        "um_per_px": source["um_per_px"],
        "norm_at_test": model.norm,
        "dropout_at_test": bool(model.dropout),
        "tiling": {"tiled": tiled, **options},
        "versions": versions() | compute_versions(),
    }


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
