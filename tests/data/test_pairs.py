"""Pairs: aligned as the simulator's truth says, on the stated grid, new data treated alike."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from msi2he_jax.data.alignment import align
from msi2he_jax.data.builder import read_split
from msi2he_jax.data.loader import load_arrays
from msi2he_jax.data.manifest import read_manifest
from msi2he_jax.data.msi_arrays import msi_arrays
from msi2he_jax.data.pairs import make_pair
from msi2he_jax.data.provenance import read_provenance
from msi2he_jax.errors import InputError
from msi2he_jax.histology import read_histology
from msi2he_jax.msi.images import apply_scale
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.registration import transforms

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def examples(pairs):
    return {e["sample_id"]: e for split in SPLITS for e in read_split(pairs, split)}


@pytest.fixture(scope="module")
def samples(cohort):
    return {sample.sample_id: sample for sample in read_manifest(cohort)}


def test_examples_have_the_documented_form(examples, pairs):
    channels = len(read_provenance(pairs)["peaks"]["mz"])
    for example in examples.values():
        height, width = example["msi"].shape[:2]
        assert example["msi"].shape == (height, width, channels)
        assert example["msi"].dtype == np.float32 and (example["msi"] >= 0).all()
        assert example["histology"].shape == example["view"].shape == (height, width, 3)
        assert (example["msi"][~example["msi_mask"]] == 0).all()
        assert example["um_per_px"] == 25.0


def test_matrices_agree_with_the_truth(examples, cohort):
    """The affine of eight landmarks picked to 0.3 px, against the truth with its smooth warp."""
    for name, example in examples.items():
        folder = cohort.parent / "truth" / name
        truth = transforms.swap_xy(json.loads((folder / "transform.json").read_text())["matrix"])
        found = transforms.swap_xy(example["msi_to_histology"])
        inside = np.argwhere(example["tissue_mask"]) * 25.0 + 12.5
        error = transforms.apply_affine(truth, inside) - transforms.apply_affine(found, inside)
        with np.load(folder / "displacement.npz") as field:
            order = field["disp_um"][..., ::-1]
            error += transforms.Displacement(field["y_um"], field["x_um"], order)(inside)
        assert np.median(np.linalg.norm(error, axis=1)) < 50


def test_msi_tissue_lies_on_histology_tissue(pairs):
    """Two clusters of the ion images alone find the tissue that the slide shows."""
    from sklearn.cluster import KMeans

    scores = []
    for split in SPLITS:
        arrays = load_arrays(pairs, split)
        for msi, tissue, valid in zip(arrays.msi, arrays.tissue_mask, arrays.valid_mask):
            found = KMeans(2, n_init=4, random_state=0).fit(msi[valid]).labels_ == 1
            scores.append(max(_dice(found, tissue[valid]), _dice(~found, tissue[valid])))
    assert np.median(scores) > 0.85


def _dice(one, two):
    return 2 * (one & two).sum() / (one.sum() + two.sum())


def test_histology_is_where_the_matrix_says(examples, samples):
    """A grid pixel shows the colour of the slide at its centre's image, to what blurring leaves."""
    name = "p00_s0"
    example, sample = examples[name], samples[name]
    slide = read_histology(sample.histology, sample.histology_um_per_px)
    points = np.argwhere(example["tissue_mask"])
    matrix = transforms.swap_xy(example["msi_to_histology"])
    where = transforms.apply_affine(matrix, points * 25.0 + 12.5) / slide.um_per_px
    rows, columns = where.astype(int).T
    inside = (rows >= 1) & (columns >= 1) & (rows < slide.pixels.shape[0] - 1)
    inside &= columns < slide.pixels.shape[1] - 1
    box = [
        slide.pixels[rows[inside] + i, columns[inside] + j] for i in (-1, 0, 1) for j in (-1, 0, 1)
    ]
    drawn = example["histology"][tuple(points[inside].T)].astype(float)
    correlation = np.corrcoef(np.mean(box, axis=0).ravel(), drawn.ravel())[0, 1]
    assert correlation > 0.9


def test_a_training_file_as_new_equals_its_training_arrays(pairs, samples):
    provenance = read_provenance(pairs)
    scaling = provenance["scaling"]
    for split in SPLITS:
        arrays = load_arrays(pairs, split)
        for i, name in enumerate(arrays.sample_ids):
            sample = samples[name]
            new = msi_arrays(open_imzml(sample.imzml), provenance)
            scaled = apply_scale(new.msi, np.array(scaling["scale"]), scaling["transform"])
            height, width = new.mask.shape
            np.testing.assert_array_equal(arrays.msi[i, :height, :width], scaled)
            np.testing.assert_array_equal(arrays.valid_mask[i, :height, :width], new.mask)


def test_a_region_is_a_part_of_the_whole(pairs, samples):
    """A region's grid starts at its corner, and its matrix says where that is on the slide."""
    provenance, sample = read_provenance(pairs), samples["p00_s0"]
    whole, _ = make_pair(sample, provenance)
    part, record = make_pair(dataclasses.replace(sample, msi_roi=(4, 2, 12, 14)), provenance)
    assert part["msi"].shape[:2] == (28, 24) and record["grid_origin_um"] == [100.0, 200.0]
    inner = np.s_[5:31, 9:31]
    np.testing.assert_allclose(part["msi"][1:27, 1:23], whole["msi"][inner], rtol=1e-5)
    np.testing.assert_array_equal(part["histology"], whole["histology"][4:32, 8:32])
    shift = np.array([[1, 0, 200], [0, 1, 100], [0, 0, 1]])
    np.testing.assert_allclose(part["msi_to_histology"], whole["msi_to_histology"] @ shift)


def test_a_slide_region_shows_the_same_place(pairs, samples):
    provenance, sample = read_provenance(pairs), samples["p00_s0"]
    slide = read_histology(sample.histology, sample.histology_um_per_px).pixels
    height, width = slide.shape[:2]
    roi = (20, 10, width - 40, height - 20)
    whole, _ = make_pair(sample, provenance)
    part, _ = make_pair(dataclasses.replace(sample, histology_roi=roi), provenance)
    np.testing.assert_array_equal(part["msi_to_histology"], whole["msi_to_histology"])
    shared = ~(part["histology"] == 255).all(axis=-1)
    difference = np.abs(part["histology"].astype(int) - whole["histology"])[shared]
    assert shared.mean() > 0.3 and np.percentile(difference, 95) <= 1


def test_oblong_pixels_become_square(pairs, samples):
    provenance, imzml = read_provenance(pairs), open_imzml(samples["p00_s0"].imzml)
    height, width = imzml.shape
    arrays = msi_arrays(imzml, provenance, um_per_px=50, um_per_px_y=100)
    assert arrays.msi.shape[:2] == (4 * height, 2 * width) and arrays.native_um == (100, 50)
    fitted = {**provenance, "grid": {"fit_px": 64, "target_um_per_px": None}}
    assert max(msi_arrays(imzml, fitted).msi.shape[:2]) == 64


def test_other_kinds_of_data_are_refused(pairs, samples):
    imzml = open_imzml(samples["p00_s0"].imzml)
    provenance = read_provenance(pairs)
    changed = {**provenance, "spectra": {**provenance["spectra"], "polarity": "positive"}}
    with pytest.raises(InputError, match="polarity: is negative, the data set has positive"):
        msi_arrays(imzml, changed)
    assert msi_arrays(imzml, changed, force=True).msi.any()
    with pytest.raises(InputError, match=r"msi_roi: .* is not inside"):
        msi_arrays(imzml, provenance, roi=(0, 0, 99, 1))


def _landmarks(sample, tmp_path, change):
    with sample.landmarks.open() as handle:
        rows = list(csv.DictReader(handle))
    path = tmp_path / "landmarks.csv"
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(change(rows))
    return dataclasses.replace(sample, landmarks=path)


def test_landmarks_that_lead_off_the_slide(pairs, samples, tmp_path):
    def away(rows):
        return [row | {"histology_x_um": float(row["histology_x_um"]) + 1e6} for row in rows]

    moved = _landmarks(samples["p00_s0"], tmp_path, away)
    with pytest.raises(InputError, match="place the MSI of p00_s0 outside its slide"):
        make_pair(moved, read_provenance(pairs))


def _three_apart(rows):
    """The leftmost, the rightmost and the lowest point, as `fit`."""
    by_x = sorted(rows, key=lambda row: float(row["msi_x_um"]))
    lowest = max(by_x[1:-1], key=lambda row: float(row["msi_y_um"]))
    return [row | {"use": "fit"} for row in (by_x[0], by_x[-1], lowest)]


def test_control_points_are_reported(samples, tmp_path):
    record = align(samples["p00_s0"]).scores
    assert record["points"] >= 4 and record["eval_points"] >= 1
    assert 0 < record["residual_rms_um"] < record["leave_one_out_max_um"]
    fit_only = _landmarks(samples["p00_s0"], tmp_path, _three_apart)
    assert align(fit_only).scores["leave_one_out_median_um"] is None
    with pytest.raises(InputError, match=r"sample p00_s0: landmarks: none are given"):
        align(dataclasses.replace(samples["p00_s0"], landmarks=None))
