"""The tiny cohort of the comparison: both kinds of spectra, a mirrored section, a region."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys

from PIL import Image, ImageOps

SIZES = ("--sections=4", "--grid=16", "--histology-um-per-px=12.5", "--seed=5")
UM_PER_PX = 12.5


def make_cohort(place: pathlib.Path, tree: pathlib.Path, sizes: tuple[str, ...]) -> int:
    """Simulates both cohorts by the revision in `tree`.

    Returns:
        A size in bytes that cuts only the largest profile file into ranges.
    """
    for spectra in ("profile", "centroid"):
        command = [sys.executable, "-m", "msi2he_jax.simulate", f"--spectra={spectra}", *sizes]
        command += [f"--out={place / spectra}"]
        environment = os.environ | {"PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu"}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        rows = _rows(place / spectra / "manifest.csv")
        _mirror(place / spectra, rows[0])
        _give_a_region(place / spectra, rows[1])
        _write(place / spectra / "manifest.csv", rows)
    files = (place / "profile").rglob("*.ibd")
    return max(path.stat().st_size for path in files) - 1


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _write(path: pathlib.Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _mirror(place: pathlib.Path, row: dict[str, str]) -> None:
    """Mirrors a slide and its landmarks left to right; its truth no longer holds."""
    slide, points = place / row["histology"], place / row["landmarks"]
    with Image.open(slide) as image:
        width_um = image.width * UM_PER_PX
        mirrored = ImageOps.mirror(image.convert("RGB"))
    mirrored.save(slide)
    landmarks = _rows(points)
    for landmark in landmarks:
        landmark["histology_x_um"] = repr(width_um - float(landmark["histology_x_um"]))
    _write(points, landmarks)
    shutil.rmtree(place / "truth" / row["sample_id"], ignore_errors=True)


def _give_a_region(place: pathlib.Path, row: dict[str, str]) -> None:
    """Restricts a section to a polygon, in MSI pixels."""
    corners = [[1, 1], [8, 1], [9, 4], [6, 8], [1, 7], [1, 1]]
    geometry = {"type": "Polygon", "coordinates": [corners]}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    region = {"type": "FeatureCollection", "features": [feature]}
    (place / "region.geojson").write_text(json.dumps(region))
    row["msi_roi"] = "region.geojson"
