"""A training file taken as new gives the very arrays that training saw."""

import numpy as np
import pytest

from msi2he_jax import preprocess, simulate
from msi2he_jax.data.loader import load_arrays
from msi2he_jax.data.manifest import read_manifest
from msi2he_jax.data.provenance import read_provenance
from msi2he_jax.inference.new_data import read_msi
from msi2he_jax.msi import ranges

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """The manifests of four sections each, by kind of spectra."""
    made = {}
    for kind in ("profile", "centroid"):
        folder = tmp_path_factory.mktemp(kind)
        flags = ["--sections=4", "--grid=16", "--histology-um-per-px=12.5", "--seed=5"]
        assert simulate.main([f"--out={folder}", *flags, f"--spectra={kind}"]) == 0
        made[kind] = folder / "manifest.csv"
    return made


def _with_regions(manifest):
    """The same cohort, of each section a part, with a pixel size of its own along y."""
    header, *rows = manifest.read_text().splitlines()
    names = header.split(",")
    added = [name for name in ("msi_roi", "msi_um_per_px_y") if name not in names]
    lines = [",".join([*names, *added])]
    for row in rows:
        cells = dict(zip(names, row.split(","), strict=True))
        cells |= {"msi_roi": '"2,1,8,9"', "msi_um_per_px_y": "60", "msi_um_per_px": "50"}
        lines.append(",".join(cells[name] for name in [*names, *added]))
    path = manifest.with_name("regions.csv")
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("kind", ["profile", "centroid"])
@pytest.mark.parametrize("case", ["whole", "region", "ranges", "treated", "paper"])
def test_a_training_file_as_new_equals_its_training_arrays(
    cohorts, kind, case, tmp_path, monkeypatch
):
    manifest = _with_regions(cohorts[kind]) if case == "region" else cohorts[kind]
    samples = {sample.sample_id: sample for sample in read_manifest(manifest)}
    if case == "ranges":
        sizes = [path.stat().st_size for path in manifest.parent.rglob("*.ibd")]
        monkeypatch.setattr(ranges, "RANGE_BYTES", min(sizes) // 3)
    flags = {
        "treated": ["--recalibrate=sums", "--normalization=rms"],
        "paper": ["--preset=paper", "--target_um_per_px=25"],
    }.get(case, [])
    if case == "treated" and kind == "profile":
        flags = [*flags, "--smoothing=savgol", "--baseline=snip"]
    words = [f"--manifest={manifest}", f"--out={tmp_path / 'pairs'}", "--peaks=6", *flags]
    assert preprocess.main(words) == 0
    provenance, seen = read_provenance(tmp_path / "pairs"), 0
    for split in SPLITS:
        if not provenance["counts"][split]:
            continue
        arrays = load_arrays(tmp_path / "pairs", split)
        for i, name in enumerate(arrays.sample_ids):
            sample = samples[name]
            size = {"um_per_px": sample.msi_um_per_px, "um_per_px_y": sample.msi_um_per_px_y}
            new = read_msi(sample.imzml, provenance, **size, roi=sample.msi_roi)
            height, width = new.mask.shape
            np.testing.assert_array_equal(arrays.msi[i, :height, :width], new.msi)
            np.testing.assert_array_equal(arrays.valid_mask[i, :height, :width], new.mask)
            assert arrays.um_per_px[i] == np.float32(new.um_per_px) and new.msi.max() > 0
            seen += 1
    assert seen == 4
