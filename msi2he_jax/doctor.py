"""Checks files and folders and says everything that is wrong with them.

    python -m msi2he_jax.doctor PATH... [--json]

A PATH is an imzML file, an image, a landmark file, a manifest, a transform, a data set made by
preprocess, or a run made by train. A manifest is followed: every file of every row is opened with
the row's own pixel sizes, landmarks and regions, by the rules of preprocess, and a table of all
samples ends the report. Exit code 0: usable (each warning is a line `warning: ...`); 2: not usable,
one line per fault.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable

from absl import flags

from msi2he_jax import cli, progress
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import existing_file
from msi2he_jax.plain_json import json_text

FLAGS = cli.new_flags()
flags.DEFINE_boolean("json", False, "Print what was read as JSON.", flag_values=FLAGS)
flags.DEFINE_boolean("tic", False, "With --json: add each pixel's TIC.", flag_values=FLAGS)
flags.DEFINE_boolean(
    "checksum",
    None,
    "Read each .ibd as a whole and compare its SHA-1: yes for an imzML that is named, no for those "
    "of a manifest.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "recheck", False, "Compute the SHA-1 even if it was recorded to agree.", flag_values=FLAGS
)
flags.DEFINE_boolean(
    "cross_check",
    False,
    "Compare position, m/z and intensities of every spectrum of an imzML, or of those of a "
    "manifest, with what pyimzML reads.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "duplicates",
    "refuse",
    ["refuse", "first", "sum"],
    "What to do with several spectra at one position of an imzML.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "allow_uuid_mismatch", False, "Differing UUIDs are a warning.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "index_cache",
    "auto",
    ["auto", "off"],
    "Whether what large imzML say is kept in hidden files beside them.",
    flag_values=FLAGS,
)

_LISTED_REGIONS = 20
_NOT_POSSIBLE = "not possible"
_TABLE = [
    *("sample", "pixels", "MSI um/px", "slide um/px", "spectra"),
    *("m/z", "landmarks fit/eval", "split", "state"),
]
_FIT_WORDS = ("control_points_condition", "leave_one_out_median_um", "leave_one_out_max_um")


def run(values: flags.FlagValues, args: list[str]) -> int:
    """Examines every path; returns the exit code."""
    if not args:
        raise InputError("PATH", "", "is required", "name files or folders to check")
    examined = []
    for done, word in enumerate(args):
        progress.tell("file", done, len(args), pathlib.Path(word).name)
        examined.append(examine(pathlib.Path(word), values))
    for found in examined:
        _say(found, as_json=values.json)
    if values.json:
        print(json_text(examined, indent=2))
    return cli.USER_ERROR if any(found["faults"] for found in examined) else cli.DONE


def examine(path: pathlib.Path, values: flags.FlagValues) -> dict:
    """Returns what was read of one path, with its `warnings` and `faults` (lists of str)."""
    found = {"path": str(path), "kind": None, "warnings": [], "faults": []}
    try:
        found["kind"], check = _kind(path)
        found.update(check(path, values, found["warnings"]))
    except InputError as error:
        found["faults"].append(str(error))
    return found


def _say(found: dict, *, as_json: bool) -> None:
    """Prints one path's result: a summary on stdout, warnings and faults on stderr."""
    progress.clear()
    for line in found["warnings"]:
        print(f"warning: {found['path']}: {line}", file=sys.stderr)
    for line in found["faults"]:
        print(f"error: {line}", file=sys.stderr)
    if as_json or (found["faults"] and "rows" not in found):
        return
    known = {"path", "kind", "warnings", "faults", "regions", "rows"}
    facts = [f"{key} {_word(value)}" for key, value in found.items() if key not in known]
    print(f"{found['path']}: {found['kind']}: {', '.join(facts)}")
    for one in found.get("regions", []):
        print(f"  region {one['label']}: {one['pixels']} pixels, msi_roi {one['msi_roi']}")
    if "rows" in found:
        print(_table(found["rows"]))


def _word(value) -> str:
    return "unknown" if value is None else str(value)


def _table(rows: list[dict]) -> str:
    """Returns a line a sample, in columns."""
    lines = [_TABLE, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (zip(line, widths, strict=True) for line in lines)
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in line).rstrip() for line in padded)


def _cells(row: dict) -> list[str]:
    from msi2he_jax.errors import one_line

    size, mz, fit = row["msi_um_per_px"], row["mz_range"], row["fit"]
    slide = row["histology_um_per_px"]
    cells = [
        row["sample_id"],
        row["pixels"],
        size and " x ".join(f"{um:g}" for um in dict.fromkeys(size)),
        slide and f"{slide:.4g}",
        row["spectra"],
        mz and f"{mz[0]:.4g} to {mz[1]:.4g}",
        "-" if fit is None else f"{fit}/{row['eval']}",
        row["split"],
        row["state"],
    ]
    return [one_line(_word(cell)) for cell in cells]


def _kind(path: pathlib.Path) -> tuple[str, Callable]:
    """Tells what a path is and which function checks it."""
    from msi2he_jax.msi.open_msi import READERS

    if path.is_dir():
        return _folder_kind(path)
    existing_file(path)
    suffix = path.suffix.lower()
    if suffix in READERS:
        return READERS[suffix].name, _msi
    if suffix == ".csv":
        return _csv_kind(path)
    if suffix == ".json":
        return "transform", _transform
    return "image", _image  # Whatever its suffix: its content says which kind, or that it is none.


def _folder_kind(path: pathlib.Path) -> tuple[str, Callable]:
    if (path / "checkpoints").is_dir():
        return "run", _run_folder
    if (path / "provenance.json").is_file():
        return "data set", _data_set
    hint = "a data set holds provenance.json, a run holds checkpoints/"
    raise InputError(path, "", "is neither a data set nor a run", hint)


def _csv_kind(path: pathlib.Path) -> tuple[str, Callable]:
    from msi2he_jax.data.manifest import COLUMNS
    from msi2he_jax.tables import header_of

    if {"sample_id", "imzml"} & set(header_of(path, COLUMNS)):
        return "manifest", _manifest
    return "landmarks", _landmarks


def _msi(path: pathlib.Path, values: flags.FlagValues, warnings: list[str]) -> dict:
    from msi2he_jax.msi.open_msi import open_msi

    msi = open_msi(
        path,
        allow_uuid_mismatch=values.allow_uuid_mismatch,
        duplicates=values.duplicates,
        index_cache=values.index_cache,
    )
    warnings += msi.warnings
    checksum = "not compared" if values.checksum is False else _checksum(msi, values, warnings)
    tic = msi.tic()
    if not tic.any():
        warnings.append("every spectrum is empty or zero")
    facts = msi.describe() | {"checksum": checksum} | _grid(msi, warnings) | _spectra(msi, tic)
    facts |= {"cross_check": _cross_check(msi, warnings)} if values.cross_check else {}
    return facts | (_pixels(msi, tic, values.tic) if values.json else {})


def _cross_check(msi, warnings: list[str]) -> str:
    """Compares every spectrum with pyimzML's reading; says what was found in a few words."""
    from msi2he_jax.msi.imzml import Imzml
    from msi2he_jax.msi.imzml_cross_check import NotReadByPyimzml, compare_with_pyimzml

    try:
        if not isinstance(msi, Imzml):
            raise NotReadByPyimzml("pyimzML reads imzML only")
        compare_with_pyimzml(msi, functools.partial(progress.tell, "spectrum"))
    except NotReadByPyimzml as error:
        warnings.append(f"not cross-checked: {error}")
        return _NOT_POSSIBLE
    return f"pyimzML reads all {msi.n} spectra alike"


def _checksum(msi, values: flags.FlagValues, warnings: list[str]) -> str | None:
    name = msi.verify_checksum(recheck=values.recheck)
    if name is None:
        warnings.append("states no checksum of its .ibd")
        return None
    when = msi.checksum_recorded
    return f"{name} agrees" + (f", as recorded {when} (--recheck reads it again)" if when else "")


def _grid(msi, warnings: list[str]) -> dict:
    from msi2he_jax.msi.regions import connected_regions

    _, regions = connected_regions(msi.mask)
    listed = regions[:_LISTED_REGIONS]
    pairs = [(a, b) for i, a in enumerate(listed) for b in listed[i + 1 :] if a.overlaps(b)]
    for a, b in pairs[:1]:
        more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
        warnings.append(f"the boxes of regions {a.label} and {b.label} overlap{more}")
    return {
        "spectra": msi.n,
        "pixels": int(msi.mask.sum()),
        "grid": list(msi.shape),
        "origin_px": list(msi.origin_px),
        "missing_pixels": int((~msi.mask).sum()),
        "region_count": len(regions),
        "regions": [
            {"label": each.label, "msi_roi": each.roi, "pixels": each.pixels} for each in listed
        ],
    }


def _spectra(msi, tic) -> dict:
    points = sorted(msi.points.tolist())
    return {
        "points_per_spectrum": [points[0], points[len(points) // 2], points[-1]],
        "empty_spectra": int((msi.points == 0).sum()),
        "mz_range": list(msi.mz_range),
        "total_ion_count": float(tic.sum()),
    }


def _pixels(msi, tic, with_tic: bool) -> dict:
    known = {"coordinates": msi.coordinates.tolist(), "mask": msi.mask.astype(int).tolist()}
    return known | ({"tic": tic.tolist()} if with_tic else {})


def _image(path: pathlib.Path, values: flags.FlagValues, warnings: list[str]) -> dict:
    from msi2he_jax import histology

    image = _read_image(path, warnings)
    tissue = float(histology.require_tissue(path, histology.tissue_mask(image.pixels)).mean())
    if not 0.005 < tissue < 0.995:
        warnings.append(f"tissue covers {tissue:.1%} of it: is this a scan of a section?")
    size = list(image.pixels.shape[:2])
    return {"size_px": size, "um_per_px": image.um_per_px, "tissue_fraction": round(tissue, 4)}


def _read_image(path: pathlib.Path, warnings: list[str]):
    """Reads an image; its pixel size may be missing or unclear here, since the manifest can say."""
    from msi2he_jax.histology import read_histology

    try:
        image = read_histology(path)
    except InputError as error:
        if error.field != "histology_um_per_px":
            raise
        warnings.append(f"{error.why}: fill the manifest's column histology_um_per_px")
        image = read_histology(path, um_per_px=1.0)  # What is worse is the error, not the size.
        image = dataclasses.replace(image, um_per_px=None)
    warnings += image.warnings
    return image


def _landmarks(path: pathlib.Path, values: flags.FlagValues, warnings: list[str]) -> dict:
    import numpy as np

    from msi2he_jax.registration.control_points import fit_landmarks
    from msi2he_jax.registration.landmarks import read_landmarks

    points = read_landmarks(path)
    fit = fit_landmarks(points)
    facts = {"points": len(points), "fit": int(fit.used.sum())}
    facts["mirrored"] = bool(np.linalg.det(fit.matrix) < 0)
    warnings += fit.warnings
    if len(points.select("eval")) == 0:
        warnings.append("has no `eval` points: a fit cannot be judged by the points it was made of")
    if facts["fit"] > 3:
        facts |= {name: fit.as_row()[name] for name in _FIT_WORDS}
    return facts


def _manifest(path: pathlib.Path, values: flags.FlagValues, warnings: list[str]) -> dict:
    from msi2he_jax.data.cohort_check import check_cohort
    from msi2he_jax.data.manifest import read_rows
    from msi2he_jax.data.patients import one_spelling
    from msi2he_jax.data.recipe import make_recipe

    recipe = make_recipe("recommended", duplicates=values.duplicates)
    cohort = check_cohort(path, recipe, checksum=bool(values.checksum), on_row=progress.tell)
    crossed = {}
    if values.cross_check:
        pairs = zip(cohort.rows, read_rows(path), strict=True)
        alike = [_cross_check_row(checked, row.sample, values) for checked, row in pairs]
        crossed["cross_check"] = f"pyimzML reads {sum(alike)} of {len(alike)} imzML alike"
    rows = [vars(row) | {"state": row.state} for row in cohort.rows]
    for each in rows:
        warnings += [f"{each['sample_id']}: {said}" for said in each["warnings"]]
    warnings += cohort.warnings
    faults = [f"{each['sample_id']}: {said}" for each in rows for said in each["faults"]]
    patients = set(one_spelling([each["group_id"] for each in rows if each["group_id"]]))
    facts = {"samples": len(rows), "groups": len(patients)}
    return facts | crossed | {"rows": rows, "faults": faults + cohort.faults}


def _cross_check_row(checked, sample, values: flags.FlagValues) -> bool:
    """Returns whether pyimzML reads the imzML of a manifest's row alike; notes down if not."""
    from msi2he_jax.msi.open_msi import open_msi

    if sample is None or checked.spectra is None:
        return False
    try:
        msi = open_msi(sample.imzml, duplicates=values.duplicates, index_cache=values.index_cache)
        return _cross_check(msi, checked.warnings) != _NOT_POSSIBLE
    except InputError as error:
        checked.faults.append(str(error))
        return False


def _transform(path: pathlib.Path, values: flags.FlagValues, warnings: list[str]) -> dict:
    import numpy as np

    from msi2he_jax.registration.export import read_transform

    transform = read_transform(path).transform
    scale = float(np.sqrt(abs(np.linalg.det(transform.matrix[:2, :2]))))
    if not 0.5 < scale < 2:
        warnings.append(f"scales by {scale:.3g}: are both sides in micrometres?")
    return {"scale": round(scale, 6), "deformable": transform.displacement is not None}


def _data_set(path: pathlib.Path, values: flags.FlagValues, warnings: list[str]) -> dict:
    from msi2he_jax.data.builder import iterate_split
    from msi2he_jax.data.split import SPLITS

    counts = {split: sum(1 for _ in iterate_split(path, split)) for split in SPLITS}
    warnings += [f"its {split} split is empty" for split, count in counts.items() if not count]
    return {"examples": counts}


def _run_folder(path: pathlib.Path, values: flags.FlagValues, warnings: list[str]) -> dict:
    from msi2he_jax.inference import load_model
    from msi2he_jax.training.checkpoint import KINDS, damaged_steps, has_steps

    faults, found = damaged_steps(path), {}
    if faults:
        return {"faults": faults}
    kinds = [kind for kind in KINDS if has_steps(path, kind)]
    for kind in kinds or KINDS:
        model = load_model(path, kind)
        warnings += [line for line in model.warnings if line not in warnings]
        found[kind] = int(model.step)
    missing = set(KINDS) - set(kinds)
    warnings += [f"holds no {kind} checkpoint" for kind in sorted(missing)]
    if not (path / "results.json").is_file():
        warnings.append("has not been scored yet: run evaluate")
    return {"model": model.config.name, "step": max(found.values()), "steps": found}


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
