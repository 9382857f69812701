"""From the MSI to the instrument's scan, from the scan to the slide: one transform, two errors."""

import csv
import dataclasses
import importlib
import json

import numpy as np
import pytest
from PIL import Image

import msi2he_jax as msi2he
from msi2he_jax import register, simulate
from msi2he_jax.coregistration import chain
from msi2he_jax.errors import InputError
from msi2he_jax.registration import transforms
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.registration.landmarks import read_landmarks, write_landmarks
from msi2he_jax.registration.point_prior import point_prior
from msi2he_jax.registration.transforms import Transform

SLIDE_UM, SCAN_UM, MSI_UM = 12.5, 20.0, 50.0
# The section was turned and moved between the scan and the stained slide.
SLIDE_TO_SCAN = Transform(
    transforms.rotation(-70, center_from=(1000, 1000), center_to=(1600, 1500))
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """The folder of one simulated section, and what its instrument photographed."""
    folder = tmp_path_factory.mktemp("scanned")
    flags = [f"--out={folder}", "--sections=1", "--grid=32", f"--histology-um-per-px={SLIDE_UM}"]
    assert simulate.main([*flags, "--spectra=centroid", "--seed=5"]) == 0
    sample = msi2he.read_manifest(folder / "manifest.csv")[0]
    with Image.open(sample.histology) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    gray = (0.25 * (255.0 - pixels[..., 1]) + 90.0).astype(np.uint8)  # dark field, no stain
    grid = {"out_shape": (170, 170), "out_um_per_px": SCAN_UM, "source_um_per_px": SLIDE_UM}
    drawn = SLIDE_TO_SCAN.inverse().warp(gray, fill=90, **grid)
    Image.fromarray(drawn).save(folder / "scan.png")
    return folder


@pytest.fixture(scope="module")
def pair(cohort):
    sample = msi2he.read_manifest(cohort / "manifest.csv")[0]
    return msi2he.section_pair(sample, msi2he.msi_picture("pca", sample))


def _truth(cohort, pair):
    name = pair.sample.sample_id
    return msi2he.read_transform(cohort / "truth" / name / "transform.json").transform


def _first(cohort, pair, error_um=(0.0, 0.0)):
    """The true way from the MSI to the scan, as far as it is affine, but for an error."""
    affine = Transform(_truth(cohort, pair).matrix).then(SLIDE_TO_SCAN)
    return affine.then(Transform(transforms.translation(error_um)))


def _via(cohort, pair, sd_um=30.0, error_um=(0.0, 0.0)):
    first = _first(cohort, pair, error_um)
    return chain.Via(first, sd_um, cohort / "scan.png", SCAN_UM, "teach points")


def test_a_scan_is_compared_as_a_picture_though_all_ions_move(cohort, pair, monkeypatch):
    seen = []

    def search(pair, options):
        seen.append((pair.moving.kind, options.metric))
        return Transform(), None

    module = importlib.import_module("msi2he_jax.coregistration.coregister")
    monkeypatch.setattr(module, "_search", search)
    ions = msi2he.section_pair(pair.sample, msi2he.msi_picture("ions", pair.sample))
    chained = msi2he.coregister(ions, msi2he.CoregisterOptions(via=_via(cohort, pair)))
    alone = msi2he.coregister(ions)
    assert seen == [("scan", "mi"), ("ions", "explained")]
    assert chained.options.metric == "mi" and alone.method == "automatic explained of ions"


@pytest.mark.slow
def test_the_chain_leads_home_with_both_errors(cohort, pair):
    """An error planted in the first step arrives on the slide, and is stated."""
    truth, inner = _truth(cohort, pair), np.array([[500.0, 700.0], [900, 900], [1100, 600]])
    via = _via(cohort, pair, 60.0, (60.0, 0.0))
    found = msi2he.coregister(pair, msi2he.CoregisterOptions(via=via))
    off = found.transform(inner) - truth(inner)
    assert np.median(np.linalg.norm(off, axis=1)) == pytest.approx(60.0, abs=25.0)
    second = found.second.transform
    scan_off = second(SLIDE_TO_SCAN(inner)) - inner
    assert np.median(np.linalg.norm(scan_off, axis=1)) < MSI_UM / 2
    np.testing.assert_allclose(found.transform(inner), second(via.first(inner)), atol=1e-6)
    row, alone = found.scores, found.second.uncertainty.median_um
    assert (row["via_sd_um"], row["via_method"]) == (60.0, "teach points")
    assert row["scan_uncertainty_median_um"] == alone
    assert found.uncertainty.median_um == pytest.approx(np.hypot(alone, 60.0), rel=0.1)
    assert found.uncertainty.spread_um.shape == pair.moving.measured.shape
    assert np.nanmin(found.uncertainty.spread_um) > 59
    assert found.method == "automatic mi of scan, after teach points"


@pytest.mark.slow
def test_points_and_a_start_are_carried_to_the_scan(cohort, pair):
    via, truth = _via(cohort, pair), _truth(cohort, pair)
    marked = read_landmarks(pair.sample.landmarks)
    prior = point_prior(marked, 40.0)
    moved = chain.points_on_scan(prior, via)
    assert moved.sd_um == 50.0
    np.testing.assert_allclose(moved.moving_yx_um, via.first(prior.moving_yx_um))
    options = msi2he.CoregisterOptions(via=via, points=prior, start=Transform(truth.matrix))
    found = msi2he.coregister(pair, options)
    assert found.scores["tre_median_msi_px"] < 1.0 and found.scores["prior_points"] == len(prior)


def _record(**scores):
    return TransformRecord(Transform(), "control points", scores)


def test_the_error_of_the_first_step_is_taken_from_it_or_stated(cohort):
    """Half of the distances are below 1.177 standard deviations per axis."""
    scan = cohort / "scan.png"
    known = _record(leave_one_out_median_um=11.774, uncertainty_median_um=99.0)
    assert chain.make_via(known, scan).sd_um == pytest.approx(10.0, rel=1e-3)
    measured = _record(tre_median_um=23.548, leave_one_out_median_um=11.774)
    assert chain.make_via(measured, scan).sd_um == pytest.approx(20.0, rel=1e-3)
    searched = _record(method="automatic", leave_one_out_median_um=1.0, uncertainty_median_um=7.0)
    assert chain.make_via(searched, scan).sd_um == 7.0
    assert chain.make_via(known, scan, sd_um=3.0).sd_um == 3.0
    for unknown in ({}, {"leave_one_out_median_um": None}, {"tre_median_um": "small"}):
        with pytest.raises(InputError, match=r"does not say how far it errs.*--via_sd_um"):
            chain.make_via(_record(**unknown), scan)


def test_a_transform_of_another_scan_is_refused(cohort, pair):
    elsewhere = Transform(transforms.translation((9e4, 0)))
    away = dataclasses.replace(_via(cohort, pair), first=elsewhere)
    with pytest.raises(InputError, match=r"scan.png: --scan: 100% of the MSI lie outside"):
        chain.scan_pair(pair, away)


def _register(cohort, *flags):
    return register.main([f"--manifest={cohort / 'manifest.csv'}", "--moving=pca", *flags])


@pytest.mark.slow
def test_register_writes_the_chain(cohort, pair, tmp_path):
    """The first step is one that register itself found: its error is in its file."""
    name, marked = pair.sample.sample_id, read_landmarks(pair.sample.landmarks)
    scanned = dataclasses.replace(marked, histology_yx_um=SLIDE_TO_SCAN(marked.histology_yx_um))
    write_landmarks(tmp_path / "teach.csv", scanned)
    flags = [f"--via={tmp_path / 'teach.csv'}", f"--scan={cohort / 'scan.png'}"]
    flags += [f"--scan_um_per_px={SCAN_UM}", f"--out={tmp_path / 'o'}"]
    assert _register(cohort, *flags) == 0
    (row,) = json.loads((tmp_path / "o" / "summary.json").read_text())["samples"]
    assert row["moving"] == "scan" and row["truth_tre_median_msi_px"] < 1.0
    assert row["via_sd_um"] > 0 and row["uncertainty_median_um"] > row["via_sd_um"]
    written = msi2he.read_transform(tmp_path / "o" / name / "transform.json")
    assert written.method == "automatic mi of scan, after control points"
    assert written.scores["via_sd_um"] == row["via_sd_um"]


@pytest.mark.slow
def test_register_takes_points(cohort, pair, tmp_path):
    marked = read_landmarks(pair.sample.landmarks).select("fit")
    rows = np.arange(len(marked)) < 2
    few = type(marked)(*(getattr(marked, f.name)[rows] for f in dataclasses.fields(marked)[:4]))
    write_landmarks(tmp_path / "two.csv", few)
    flags = [f"--points={tmp_path / 'two.csv'}", "--points_sd_um=50", f"--out={tmp_path / 'o'}"]
    assert _register(cohort, *flags) == 0
    (row,) = json.loads((tmp_path / "o" / "summary.json").read_text())["samples"]
    assert (row["prior_points"], row["prior_sd_um"]) == (2, 50.0)
    assert row["truth_tre_median_msi_px"] < 1.0 and row["prior_rms_um"] < 100
    with open(tmp_path / "o" / "summary.csv") as file:
        assert next(csv.DictReader(file))["prior_points"] == "2"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--points=one.csv"], "--points_sd_um: is required with --points"),
        (["--points_sd_um=50"], "--points: is required with --points_sd_um"),
        (["--points=one.csv", "--points_sd_um=0"], "--points_sd_um: is 0, must be between"),
        (["--points=one.csv", "--points_sd_um=50"], "one.csv: points: holds 1 of use fit"),
        (["--points=no.csv", "--points_sd_um=50"], "no.csv: landmarks: no such file"),
        (
            ["--points=one.csv", "--points_sd_um=50", "--method=control-points"],
            "--points: goes with --method=automatic, not control-points",
        ),
        (["--via=first.json"], "--scan: is required with --via"),
        (["--scan=scan.png"], "--via: is required with --scan"),
        (["--via=first.json", "--scan=scan.png"], "first.json: via: does not say how far it errs"),
        (
            ["--via=first.json", "--via_sd_um=9", "--scan=scan.png"],
            "--scan_um_per_px: the file does not say its pixel size",
        ),
        (
            ["--via=first.json", "--via_sd_um=9", "--scan=no.png", "--scan_um_per_px=20"],
            "no.png: --scan: no such file",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    cohort, tmp_path, monkeypatch, capsys, flags, said
):
    monkeypatch.chdir(tmp_path)
    columns = "name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um"
    (tmp_path / "one.csv").write_text(f"{columns}\na,fit,1,2,3,4\n")
    (tmp_path / "first.json").write_text("[[1, 0, 0], [0, 1, 0], [0, 0, 1]]")
    (tmp_path / "scan.png").write_bytes((cohort / "scan.png").read_bytes())
    before = sorted(tmp_path.iterdir())
    assert _register(cohort, *flags, "--out=o") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert sorted(tmp_path.iterdir()) == before
