"""What doctor says of imzML files, as text and as JSON."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from pyimzml.ImzMLParser import ImzMLParser
from pyimzml.ImzMLWriter import ImzMLWriter

from msi2he_jax import doctor


@pytest.fixture
def run(tmp_path):
    """Writes a run of two sections with a gap between them; more positions may be added."""

    def write(more=()):
        path = tmp_path / "run.imzML"
        places = [(x, y) for x in (2, 3, 4, 7, 8) for y in (5, 6, 7, 8) if (x, y) != (8, 8)]
        options = {"mode": "processed", "spec_type": "centroid", "polarity": "negative"}
        with ImzMLWriter(str(path), mz_dtype=np.float32, **options) as writer:
            for x, y in [*places, *more]:
                mz = np.array([100.0, 200.0 + x][: 1 + (x > 2)])
                writer.addSpectrum(mz, np.full(len(mz), y, np.float32), (x, y, 1))
        return path

    return write


def examined(capsys, *words):
    code = doctor.main([*map(str, words), "--json"])
    printed = capsys.readouterr()
    return code, json.loads(printed.out)[0], printed.err


def test_everything_is_said_as_json(run, capsys):
    path = run()
    code, found, errors = examined(capsys, path)
    assert code == 0 and "Traceback" not in errors
    identity, coordinates = found.pop("uuid"), found.pop("coordinates")
    assert len(identity) == 36 and len(coordinates) == 19 and coordinates[0] == [0, 0]
    assert found == {
        "path": str(path),
        "kind": "imzML",
        "warnings": ["no usable pixel size is stated"],
        "faults": [],
        "mode": "processed",
        "spectrum_type": "centroid",
        "polarity": "negative",
        "pixel_size_um": None,
        "ibd": "run.ibd",
        "ibd_bytes": 16 + (4 * 1 + 15 * 2) * 8,
        "number_types": ["m/z float32, intensity float32"],
        "checksum": "sha1 agrees",
        "spectra": 19,
        "pixels": 19,
        "grid": [4, 7],
        "origin_px": [2, 5],
        "missing_pixels": 9,
        "region_count": 2,
        "regions": [
            {"label": 1, "msi_roi": "0,0,3,4", "pixels": 12},
            {"label": 2, "msi_roi": "5,0,2,4", "pixels": 7},
        ],
        "points_per_spectrum": [1, 2, 2],
        "empty_spectra": 0,
        "mz_range": [100.0, 208.0],
        "total_ion_count": 26.0 + 2 * (26 + 26 + 26 + 18),
        "mask": [[1, 1, 1, 0, 0, 1, 1]] * 3 + [[1, 1, 1, 0, 0, 1, 0]],
    }


def test_regions_can_be_copied_from_the_text(run, capsys):
    assert doctor.main([str(run())]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert "region_count 2" in first and "polarity negative" in first
    assert lines == [
        "  region 1: 12 pixels, msi_roi 0,0,3,4",
        "  region 2: 7 pixels, msi_roi 5,0,2,4",
    ]


def test_boxes_that_overlap_are_warned_of(run, capsys):
    path = run([(x, 10) for x in range(2, 12)] + [(11, y) for y in range(6, 10)])
    _, found, errors = examined(capsys, path)
    assert found["region_count"] == 3
    assert "warning: " in errors and "the boxes of regions 1 and 2 overlap" in errors


def test_several_spectra_at_a_position(run, capsys):
    path = run([(2, 5)])
    code, found, _ = examined(capsys, path)
    assert code == 2 and "pass --duplicates=sum or first" in found["faults"][0]
    code, found, errors = examined(capsys, path, "--duplicates=sum")
    assert code == 0 and (found["spectra"], found["pixels"]) == (20, 19)
    assert "policy: sum" in errors
    assert examined(capsys, path, "--duplicates=first")[1]["spectra"] == 19


def test_another_uuid(run, capsys):
    path = run()
    ibd = path.with_suffix(".ibd")
    ibd.write_bytes(bytes(16) + ibd.read_bytes()[16:])
    code, found, _ = examined(capsys, path, "--nochecksum")
    assert code == 2 and "UUID" in found["faults"][0]
    code, found, errors = examined(capsys, path, "--allow_uuid_mismatch", "--nochecksum")
    assert code == 0 and "the .ibd starts with 0000" in errors
    assert found["checksum"] == "not compared"


def test_a_recorded_checksum_says_so(run, capsys, monkeypatch):
    record = "2026-01-02T03:04:05+00:00"

    def verify(*_args, recheck, **_options):
        return "sha1", None if recheck else record

    monkeypatch.setattr("msi2he_jax.msi.imzml_checksum.verify", verify)
    path = run()
    expected = f"sha1 agrees, as recorded {record} (--recheck reads it again)"
    assert examined(capsys, path)[1]["checksum"] == expected
    assert examined(capsys, path, "--recheck")[1]["checksum"] == "sha1 agrees"


def test_tic_on_request(run, capsys):
    _, found, _ = examined(capsys, run(), "--tic")
    assert len(found["tic"]) == len(found["coordinates"]) and found["tic"][0] == 5.0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no RLIMIT_AS")
def test_an_ibd_larger_than_the_memory_allowed_is_one_line(run):
    """As under `ulimit -v`; the file is sparse, and takes no room."""
    path = run()
    try:
        os.truncate(path.with_suffix(".ibd"), 6 << 30)
    except OSError as error:
        pytest.skip(f"the file system holds no sparse file of 6 GiB: {error}")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))"
    code = f"{limit}; import sys; from msi2he_jax.doctor import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, path, "--quiet"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "there is not enough memory for this" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stdout


def test_spectra_are_cross_checked_when_asked(run, capsys, monkeypatch):
    path = run()
    assert "cross_check" not in examined(capsys, path)[1]
    code, found, _ = examined(capsys, path, "--cross-check")
    assert code == 0 and found["cross_check"] == "pyimzML reads all 19 spectra alike"
    assert doctor.main([str(path), "--cross-check"]) == 0
    assert "cross_check pyimzML reads all 19 spectra alike" in capsys.readouterr().out

    parse = ImzMLParser.getspectrum
    monkeypatch.setattr(ImzMLParser, "getspectrum", lambda self, i: parse(self, max(i, 1)))
    assert doctor.main([str(path), "--cross-check"]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith(f"error: {path}: spectrum 1 (x 2, y 5): intensities differ")
