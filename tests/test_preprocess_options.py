"""What preprocess can be told: each choice reaches the data, and new data are treated alike."""

import hashlib
import json

import numpy as np
import pytest

from msi2he_jax import preprocess, simulate
from msi2he_jax.data import views
from msi2he_jax.data.builder import read_split
from msi2he_jax.data.manifest import read_manifest
from msi2he_jax.data.msi_arrays import msi_arrays, read_like
from msi2he_jax.data.provenance import read_provenance
from msi2he_jax.msi import projection
from msi2he_jax.msi.peak_list import read_peak_list


@pytest.fixture(scope="module", params=["profile", "centroid"])
def cohort(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    flags = [f"--out={folder}", "--sections=3", "--grid=16", "--histology-um-per-px=12.5"]
    assert simulate.main([*flags, f"--spectra={request.param}", "--seed=5"]) == 0
    return request.param, folder / "manifest.csv"


@pytest.fixture(scope="module")
def plain(cohort, tmp_path_factory):
    """The same cohort without options."""
    out = tmp_path_factory.mktemp("plain") / "out"
    assert _run(cohort[1], out) == 0
    return out


def _run(manifest, out, *flags):
    return preprocess.main([f"--manifest={manifest}", f"--out={out}", "--peaks=8", *flags])


def _record(out):
    return json.loads((out / "provenance.json").read_text())


def _examples(out):
    return [x for split in ("train", "validation", "test") for x in read_split(out, split)]


OPTIONS = [
    "--axis=tof --normalization=rms --recalibrate=sums",
    "--axis=orbitrap --normalization=median",
    "--axis=fixed_da --axis_step=0.02 --rebin=sum --view_fit=train",
    "--smoothing=savgol --baseline=tophat --baseline_points=51",
]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_training_file_as_if_it_were_new_gives_equal_arrays(cohort, tmp_path, capsys, options):
    kind, manifest = cohort
    code = _run(manifest, tmp_path / "out", *options.split())
    if kind == "centroid" and "smoothing" in options:
        assert code == 2
        assert "smoothing: needs profile spectra, the file holds centroid spectra" in (
            capsys.readouterr().err
        )
        return
    assert code == 0
    provenance = read_provenance(tmp_path / "out")
    stored = {x["sample_id"]: x for x in _examples(tmp_path / "out")}
    for sample in read_manifest(manifest):
        size = {"um_per_px": sample.msi_um_per_px, "um_per_px_y": sample.msi_um_per_px_y}
        imzml, _ = read_like(sample.imzml, provenance)
        arrays = msi_arrays(imzml, provenance, **size, roi=sample.msi_roi)
        np.testing.assert_array_equal(arrays.msi, stored[sample.sample_id]["msi"])
        assert arrays.msi.any()


def test_a_shift_of_one_file_is_found_and_undone(cohort, plain, tmp_path):
    """A test file whose m/z are 30 ppm too high: its shift is found, its images are the same."""
    manifest = cohort[1]
    sample = next(s for s in read_manifest(manifest) if _split(plain, s.sample_id) == "test")
    files = [sample.imzml, sample.imzml.with_suffix(".ibd")]
    before = [path.read_bytes() for path in files]
    flags = ["--recalibrate=sums", "--recalibrate_ppm=60"]
    assert _run(manifest, tmp_path / "before", *flags) == 0
    try:
        _scale_mz(sample.imzml, 1 + 30e-6)
        assert _run(manifest, tmp_path / "after", *flags) == 0
    finally:
        for path, content in zip(files, before, strict=True):
            path.write_bytes(content)
    first, second = (
        next(r for r in _record(tmp_path / n)["samples"] if r["sample_id"] == sample.sample_id)
        for n in ("before", "after")
    )
    moved = second["mass_shift"]["ppm"] - first["mass_shift"]["ppm"]
    assert moved == pytest.approx(30, abs=3) and second["mass_shift"]["matched"] >= 3
    a, b = (
        next(x for x in _examples(tmp_path / n) if x["sample_id"] == sample.sample_id)["msi"]
        for n in ("before", "after")
    )
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99


def _split(out, sample_id):
    return next(r["split"] for r in _record(out)["samples"] if r["sample_id"] == sample_id)


def _scale_mz(path, factor):
    """Multiplies all m/z of an imzML pair in place, and states the new SHA-1."""
    from msi2he_jax.msi.imzml import open_imzml

    imzml = open_imzml(path)
    table = imzml._mz
    places = {
        (int(o), int(n), table.dtypes[int(f)])
        for o, n, f in zip(table.offset, table.length, table.format, strict=True)
    }
    raw = bytearray(path.with_suffix(".ibd").read_bytes())
    stated = hashlib.sha1(raw).hexdigest().upper()
    for offset, length, dtype in places:
        values = np.frombuffer(raw, dtype, length, offset)
        scaled = (values.astype(np.float64) * factor).astype(dtype).tobytes()
        raw[offset : offset + len(scaled)] = scaled
    path.with_suffix(".ibd").write_bytes(raw)
    path.write_text(path.read_text().replace(stated, hashlib.sha1(raw).hexdigest().upper()))


def test_a_list_of_mz_instead_of_picking(cohort, plain, tmp_path):
    """The peaks of one run, handed back as a list, give the same images; names are kept."""
    listed = read_peak_list(plain / "peaks.csv")
    assert listed.mz.tolist() == _record(plain)["peaks"]["mz"]
    path = tmp_path / "list.csv"
    rows = [line for line in (plain / "peaks.csv").read_text().splitlines()]
    path.write_text(
        "\n".join([f"{rows[0]},name", *(f"{r},ion {n}" for n, r in enumerate(rows[1:]))])
    )
    assert _run(cohort[1], tmp_path / "out", f"--peak_list={path}") == 0
    record = _record(tmp_path / "out")
    assert record["peak_names"][1] == "ion 1"
    for a, b in zip(_examples(plain), _examples(tmp_path / "out"), strict=True):
        np.testing.assert_array_equal(a["msi"], b["msi"])


def test_the_view_that_says_most_is_taken(cohort, tmp_path, monkeypatch):
    """t-SNE and UMAP, which take their time, are stood in for by black images."""

    def project(images, mask, *, method, seed, most_px):
        view = projection.project(images, mask, method="pca", seed=seed)
        return view if method == "pca" else np.zeros_like(view)

    scored = {"pca": 0.2, "tsne": 0.3, "umap": 0.1}
    monkeypatch.setattr(
        "msi2he_jax.msi.views.score_views", lambda found, *_, **__: {n: scored[n] for n in found}
    )
    monkeypatch.setattr(views, "project", project)
    assert _run(cohort[1], tmp_path / "out", "--view=auto") == 0
    for sample in _record(tmp_path / "out")["samples"]:
        assert sample["view"] == "tsne" and sample["view_scores"] == scored
    assert not any(example["view"].any() for example in _examples(tmp_path / "out"))


def test_a_view_fitted_to_the_training_split(cohort, plain, tmp_path):
    """One training sample: its own view is as before, the others are seen with its eyes."""
    assert _run(cohort[1], tmp_path / "out", "--view_fit=train") == 0
    record = _record(tmp_path / "out")
    assert np.shape(record["view_models"]["pca"]["axes"]) == (8, 3)
    for a, b in zip(_examples(plain), _examples(tmp_path / "out"), strict=True):
        np.testing.assert_array_equal(a["msi"], b["msi"])
        same = np.abs(a["view"].astype(int) - b["view"]).max() <= 1
        assert b["view"].any() and same == (_split(plain, a["sample_id"]) == "train")


def test_peak_options_reach_the_picking(cohort, plain, tmp_path):
    top = _record(plain)["peaks"]["mz"]
    flags = [f"--exclude_mz={top[0]}", "--exclude_background=dhb,9aa", "--prominence=0.2"]
    assert _run(cohort[1], tmp_path / "out", *flags, "--notissue_only", "--min_snr=1") == 0
    record = _record(tmp_path / "out")
    assert top[0] not in record["peaks"]["mz"]
    recipe = record["recipe"]
    assert recipe["background"] == ["dhb", "9aa"] and recipe["prominence"] == 0.2
    assert recipe["tissue_only"] is False and recipe["min_snr"] == 1
    assert record["spectra"]["summed"] > _record(plain)["spectra"]["summed"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--lock_mz=700", "--lock_mz: goes with --recalibrate=lock (give both or neither)"),
        ("--recalibrate=lock", "--lock_mz: goes with --recalibrate=lock (give both or neither)"),
        ("--recalibrate=lock --lock_mz=a,b", "--lock_mz: 'a,b' are not m/z"),
        ("--reference_mz=7", "--reference_mz: goes with --normalization=reference"),
        (
            "--normalization=reference --reference_mz=333.3333 --reference_ppm=0.01",
            "has signal within 0.01 ppm of m/z 333.333 (name another ion: --reference_mz)",
        ),
        ("--baseline_points=100", "--baseline_points: is 100, must be odd"),
        ("--view=tsne --view_fit=train", "--view: tsne cannot be fitted to the training split"),
        ("--exclude_background=dbh", "dbh"),
        ("--peak_list=nowhere.csv", "nowhere.csv: no such file"),
        ("--smoothing=savgol --axis=log", "--axis"),
        ("--prominence=2", "--prominence: is 2, must be between 0 and 1"),
    ],
)
def test_mistakes_are_one_line(cohort, tmp_path, capsys, flags, expected):
    assert _run(cohort[1], tmp_path / "out", *flags.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and expected in error
    assert not (tmp_path / "out").exists()
