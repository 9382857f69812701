"""What the net's tiny cohort comes to, as integers, names and values with tolerances.

    python -m tests.revisions.golden --renew

writes golden.json beside this file; a commit that does so says why the results changed. The test
beside runs the same. Where `compare.py` asks whether two revisions agree bit for bit on one
machine, this holds from machine to machine: so only paths whose arithmetic says how far they can
be apart are in it, and none that an optimiser leads.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import pathlib
import tempfile
from collections.abc import Iterator

import jax
import numpy as np

from msi2he_jax import config, preprocess, register
from msi2he_jax.data.builder import read_split
from msi2he_jax.data.loader import load_arrays
from msi2he_jax.msi import ranges
from msi2he_jax.training.methods import build_optimizers
from msi2he_jax.training.preparation import complete_config
from msi2he_jax.training.state import create_train_state
from tests.revisions.cohort import SIZES, make_cohort
from tests.revisions.differences import leaves

HERE = pathlib.Path(__file__).parent
STORED = HERE / "golden.json"
# Of the machine, of the libraries or of the clock, or a digest of what these decide.
LEFT_OUT = ("/versions/*", "*sha256*", "/shards/*", "/manifest", "*seconds")
LEFT_OUT += ("/cohort/*",)  # what the simulator says of itself
# By the first pattern that fits: relative, absolute.
TOLERANCES = {
    # float64 sums of at most 1e5 terms: 1e5 times 2^-53, rounded up
    "*/peaks/*": (1e-10, 0.0),
    # least squares of 8 points in um, condition below 10: 1e4 um times 10 times 2^-53
    "*/control_points/*/*uncertainty*": (1e-2, 0.0),  # float32 exponentials of sums of 1e4 votes
    "*/control_points/*undetermined*": (0.0, 0.02),  # a pixel or two on the other side of a limit
    "*/control_points/*evidence*": (1e-2, 1e-3),  # float32 exponentials of some 50 votes
    "*/control_points/*verdict_probability": (1e-2, 1e-3),
    "*/control_points/*tissue_dice": (0.0, 0.02),
    "*/control_points/*": (1e-9, 1e-6),
    # a mean of bytes, each of which another library may round to its neighbour
    "*/histology_mean": (0.0, 0.05),
    # float32 interpolation: some roundings of 2^-24 each
    "*": (1e-5, 1e-9),
}


def measure(place: pathlib.Path) -> dict[str, object]:
    """Runs the line on the net's cohort and returns what is stored of it, by key.

    Args:
        place: An empty folder.
    """
    before, found = ranges.RANGE_BYTES, {}
    ranges.RANGE_BYTES = make_cohort(place / "cohort", HERE.parents[1], SIZES)
    try:
        for spectra, preset in (("profile", []), ("centroid", []), ("profile", ["--preset=paper"])):
            name = (preset and "paper") or spectra
            manifest = f"--manifest={place / 'cohort' / spectra / 'manifest.csv'}"
            words = [manifest, f"--out={place / name}", "--peaks=12", "--quiet", *preset]
            assert preprocess.main(words) == 0
            found |= {f"/{name}{key}": value for key, value in _of_pairs(place / name)}
    finally:
        ranges.RANGE_BYTES = before
    manifest = f"--manifest={place / 'cohort' / 'profile' / 'manifest.csv'}"
    words = ["--moving=pca", "--method=control-points", "--quiet", f"--out={place / 'points'}"]
    assert register.main([manifest, *words]) == 0
    found |= {f"/control_points{key}": value for key, value in _of_sections(place / "points")}
    for variant in ("pix2pix", "unet"):
        state = _of_state(variant, place / "profile")
        found |= {f"/{variant}{key}": value for key, value in state}
    return {key: value for key, value in found.items() if not _matches(key, LEFT_OUT)}


def _matches(key: str, patterns) -> bool:
    inner = "/" + key.split("/", 2)[2]
    return any(fnmatch.fnmatch(inner, pattern) for pattern in patterns)


def _of_pairs(folder: pathlib.Path) -> Iterator[tuple[str, object]]:
    yield "/files", sorted(path.name for path in folder.iterdir())
    yield from leaves(json.loads((folder / "provenance.json").read_text()))
    for split in ("train", "test"):
        for example in read_split(folder, split):
            key = f"/{split}/{example['sample_id']}"
            for name, value in sorted(example.items()):
                array = np.asarray(value)
                yield f"{key}/{name}/is", [str(array.dtype.kind), *array.shape]
            for name in ("msi_mask", "tissue_mask"):
                yield f"{key}/{name}/pixels", int(np.count_nonzero(example[name]))
            yield f"{key}/msi_sum", float(example["msi"].sum(dtype=np.float64))
            yield f"{key}/histology_mean", float(example["histology"].mean())


def _of_sections(folder: pathlib.Path) -> Iterator[tuple[str, object]]:
    summary = json.loads((folder / "summary.json").read_text())
    for row in summary["samples"]:
        name = row["sample_id"]
        yield f"/{name}/files", sorted(path.name for path in (folder / name).iterdir())
        yield from leaves(row, f"/{name}/row")
        record = json.loads((folder / name / "transform.json").read_text())
        yield from leaves(record["matrix"], f"/{name}/matrix")


def _of_state(variant: str, pairs: pathlib.Path) -> Iterator[tuple[str, object]]:
    """Names and sizes of all that a checkpoint holds."""
    asked = config.load_config(HERE.parents[1] / "configs" / f"smoke.py:{variant}")
    asked.data.dir, asked.model.features, asked.discriminator.features = str(pairs), 4, 4
    if variant == "pix2pix":
        asked.model.depth = 5
    asked = complete_config(asked, load_arrays(pairs, "train"))
    state = create_train_state(asked, *build_optimizers(asked, 2))
    flat, _ = jax.tree_util.tree_flatten_with_path(state)
    shapes = {jax.tree_util.keystr(path): list(np.shape(leaf)) for path, leaf in flat}
    yield "/state/arrays", len(shapes)
    yield "/state/numbers", sum(math.prod(shape) for shape in shapes.values())
    yield from ((f"/state/{name}", shape) for name, shape in shapes.items() if "params" in name)


def unlike(stored: dict[str, object], found: dict[str, object]) -> list[str]:
    """Lists what is not as it was stored, a line each.

    Args:
        stored: From golden.json.
        found: From `measure`.
    """
    lines = [f"{key}: only in one of them" for key in sorted(set(stored) ^ set(found))]
    for key in sorted(set(stored) & set(found)):
        if not _alike(key, stored[key], found[key]):
            lines.append(f"{key}: {stored[key]!r} became {found[key]!r}")
    return lines


def _alike(key: str, a: object, b: object) -> bool:
    if not isinstance(a, float) or isinstance(b, str):
        return a == b
    relative, absolute = next(t for p, t in TOLERANCES.items() if fnmatch.fnmatch(key, p))
    return math.isclose(a, b, rel_tol=relative, abs_tol=absolute) or (a != a and b != b)


def plain(found: dict[str, object]) -> dict[str, object]:
    """Returns what JSON gives back of a measurement; what is not a number is None.

    Args:
        found: From `measure`.
    """
    known = {key: None if value != value else value for key, value in found.items()}
    return json.loads(json.dumps(known, allow_nan=False, sort_keys=True))


def main() -> None:
    """Renews the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--renew", action="store_true", required=True)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = plain(measure(pathlib.Path(place)))
    STORED.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
