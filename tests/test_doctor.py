"""Doctor says what it read, what is odd and what is wrong, and exits accordingly."""

import json

import numpy as np
import pytest
from PIL import Image
from pyimzml.ImzMLParser import ImzMLParser
from pyimzml.ImzMLWriter import ImzMLWriter

from msi2he_jax import doctor
from msi2he_jax.registration.export import TransformRecord, write_transform
from msi2he_jax.registration.transforms import Transform


@pytest.fixture
def imzml(tmp_path):
    path = tmp_path / "s.imzML"
    with ImzMLWriter(str(path), mode="processed", spec_type="centroid") as writer:
        for x in (2, 3, 4):
            for y in (5, 6):
                mz = np.array([100.0, 200.0 + x])
                writer.addSpectrum(mz, np.array([1.0, y], np.float32), (x, y, 1))
    return path


def test_imzml_as_json(imzml, capsys):
    assert doctor.main([str(imzml), "--json", "--tic"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["pixels"], found["grid"], found["origin_px"]) == (6, [2, 3], [2, 5])
    assert (found["mode"], found["spectrum_type"]) == ("processed", "centroid")
    assert found["mz_range"] == [100.0, 204.0]
    assert dict(zip(map(tuple, found["coordinates"]), found["tic"]))[(1, 0)] == 7.0


def test_truncated_ibd_is_a_fault(imzml, capsys):
    ibd = imzml.with_suffix(".ibd")
    ibd.write_bytes(ibd.read_bytes()[:-4])
    assert doctor.main([str(imzml)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1 and printed.err.startswith("error: ")


def test_changed_ibd_is_found_by_its_checksum(imzml, capsys):
    ibd = imzml.with_suffix(".ibd")
    data = bytearray(ibd.read_bytes())
    data[-1] ^= 1
    ibd.write_bytes(data)
    assert doctor.main([str(imzml)]) == 2
    assert "the file is damaged" in capsys.readouterr().err


def test_image_without_pixel_size_is_a_warning(tmp_path, capsys):
    image = np.full((64, 64, 3), 245, np.uint8)
    image[16:48, 16:48] = (200, 120, 170)
    Image.fromarray(image).save(tmp_path / "h.png")
    assert doctor.main([str(tmp_path / "h.png")]) == 0
    printed = capsys.readouterr()
    assert "does not say its pixel size" in printed.err and "um_per_px unknown" in printed.out
    assert doctor.main([str(tmp_path / "h.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["um_per_px"] is None


def test_exchanged_columns_are_an_error(tmp_path, capsys):
    rng = np.random.default_rng(0)
    msi = rng.uniform(0, 5000, (6, 2))
    rows = [f"p{k},fit,{x + 300},{y + 100},{y},{x}" for k, (x, y) in enumerate(msi)]
    path = tmp_path / "points.csv"
    header = "name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um"
    path.write_text(
        "\n".join(
            [
                header,
                rows[0],
                *(f"p{k},fit,{x + 300},{y + 100},{x},{y}" for k, (x, y) in enumerate(msi) if k),
            ]
        )
    )
    assert doctor.main([str(path)]) == 2
    assert "p0" in capsys.readouterr().err


def test_landmarks(tmp_path, capsys):
    path = tmp_path / "points.csv"
    rows = ["name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um"]
    for i, (x, y) in enumerate([(0, 0), (100, 0), (0, 100), (100, 100)]):
        rows.append(f"p{i},fit,{-2 * x},{2 * y},{x},{y}")
    path.write_text("\n".join(rows) + "\n")
    assert doctor.main([str(path), "--json"]) == 0
    printed = capsys.readouterr()
    (found,) = json.loads(printed.out)
    assert found["mirrored"] and found["leave_one_out_median_um"] < 1e-6
    assert "no `eval` points" in printed.err


def test_transform(tmp_path, capsys):
    matrix = np.diag([1000.0, 1000.0, 1.0])
    write_transform(tmp_path, TransformRecord(Transform(matrix), "test"))
    assert doctor.main([str(tmp_path / "transform.json")]) == 0
    printed = capsys.readouterr()
    assert "scale 1000" in printed.out
    assert "are both sides in micrometres?" in printed.err


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.imzML", "no such file"), ("x.docx", "this kind of file is not read")],
)
def test_faults(tmp_path, capsys, name, message):
    (tmp_path / "x.docx").write_bytes(b"PK" + bytes(200))
    assert doctor.main([str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


def test_an_empty_folder_is_no_data_set(tmp_path, capsys):
    assert doctor.main([str(tmp_path)]) == 2
    assert "neither a data set nor a run" in capsys.readouterr().err


def test_no_path_is_a_mistake(capsys):
    assert doctor.main([]) == 2
    assert "PATH: is required" in capsys.readouterr().err


def test_patients_of_a_manifest_are_compared(tmp_path, capsys):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.imzML").write_text("x")
        (tmp_path / f"{name}.png").write_text("x")
    head, path = "sample_id,group_id,imzml,histology,split\n", tmp_path / "m.csv"
    rows = "s1,P-07,a.imzML,a.png,{}\ns2,p_07,b.imzML,b.png,{}\ns3,P7,c.imzML,c.png,{}\n"
    path.write_text(head + rows.format("", "", ""))
    assert doctor.main([str(path)]) == 2  # The files hold nothing, which is said as well.
    captured = capsys.readouterr()
    assert captured.err.count("error: ") == 6
    assert "the patients 'P-07' and 'p_07' are taken as one" in captured.err
    assert "the patients 'P-07' and 'P7' may be one" in captured.err and "groups 2" in captured.out
    path.write_text(head + rows.format("train", "test", "train"))
    assert doctor.main([str(path)]) == 2
    assert (
        f"error: {path}: split: s2 (test) and s1 (train) share a patient" in capsys.readouterr().err
    )


@pytest.fixture
def manifest(imzml, tmp_path):
    """Three rows, the same sound files in the first two, and a slide that is none in the third."""
    image = np.full((64, 64, 3), 245, np.uint8)
    image[8:56, 8:56] = (200, 120, 170)
    Image.fromarray(image).save(tmp_path / "h.png")
    (tmp_path / "none.png").write_bytes(bytes(100))
    path = tmp_path / "m.csv"
    rows = ["a,p1,s.imzML,h.png,2,50", "b,p1,s.imzML,h.png,,50", "c,p2,s.imzML,none.png,2,"]
    header = "sample_id,group_id,imzml,histology,histology_um_per_px,msi_um_per_px"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_manifest_is_followed_and_ends_in_a_table(manifest, capsys):
    assert doctor.main([str(manifest)]) == 2
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == f"{manifest}: manifest: samples 3, groups 2" and len(lines) == 5
    columns = "sample  pixels  MSI um/px  slide um/px  spectra   m/z         landmarks fit/eval"
    assert lines[1].startswith(columns)
    cells = [" ".join(line.split()) for line in lines[2:]]
    assert cells == [
        "a 6 50 2 channels 100 to 204 - train warning",
        "b 6 50 unknown channels 100 to 204 - train fault",
        "c 6 unknown 2 channels 100 to 204 - train fault",
    ]
    faults = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in faults] == ["b", "c", "c"]


def test_a_manifest_as_json(manifest, capsys):
    assert doctor.main([str(manifest), "--json"]) == 2
    (found,) = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in found["rows"]] == ["warning", "fault", "fault"]
    assert found["rows"][1]["histology_um_per_px"] is None and len(found["faults"]) == 3
    assert found["rows"][0]["mz_range"] == [100.0, 204.0] and found["samples"] == 3


def test_a_manifest_is_hashed_when_asked(manifest, imzml, capsys):
    ibd = imzml.with_suffix(".ibd")
    data = bytearray(ibd.read_bytes())
    data[-1] ^= 1
    ibd.write_bytes(data)
    doctor.main([str(manifest)])
    assert "the file is damaged" not in capsys.readouterr().err
    doctor.main([str(manifest), "--checksum"])
    assert capsys.readouterr().err.count("the file is damaged") == 3


def test_spectra_of_a_manifest_are_cross_checked_when_asked(manifest, capsys, monkeypatch):
    doctor.main([str(manifest), "--cross-check"])
    assert "cross_check pyimzML reads 3 of 3 imzML alike" in capsys.readouterr().out
    monkeypatch.setattr(ImzMLParser, "getspectrum", lambda self, i: ([100.0, 203.0], [1.0, 5.0]))
    doctor.main([str(manifest), "--cross-check", "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert found["cross_check"] == "pyimzML reads 0 of 3 imzML alike"
    assert sum("differ from what pyimzML reads: point 2" in said for said in found["faults"]) == 3
