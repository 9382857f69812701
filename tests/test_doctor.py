"""Doctor says what it read, what it doubts and what is wrong, and exits accordingly."""

import json

import numpy as np
import pytest
from PIL import Image
from pyimzml.ImzMLWriter import ImzMLWriter

from msi2he_jax import doctor
from msi2he_jax.registration.export import Transform, write_transform


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


def test_image_without_pixel_size_is_a_doubt(tmp_path, capsys):
    image = np.full((64, 64, 3), 245, np.uint8)
    image[16:48, 16:48] = (200, 120, 170)
    Image.fromarray(image).save(tmp_path / "h.png")
    assert doctor.main([str(tmp_path / "h.png")]) == 0
    assert "states no pixel size" in capsys.readouterr().err


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
    write_transform(tmp_path, Transform(matrix, method="test"))
    assert doctor.main([str(tmp_path / "transform.json")]) == 0
    printed = capsys.readouterr()
    assert "scale 1000" in printed.out
    assert "are both sides in micrometres?" in printed.err


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.imzML", "no such file"), ("x.docx", "is not a kind of file this reads")],
)
def test_faults(tmp_path, capsys, name, message):
    (tmp_path / "x.docx").touch()
    assert doctor.main([str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


def test_an_empty_folder_is_no_data_set(tmp_path, capsys):
    assert doctor.main([str(tmp_path)]) == 2
    assert "neither a data set nor a run" in capsys.readouterr().err


def test_no_path_is_a_mistake(capsys):
    assert doctor.main([]) == 2
    assert "PATH: is required" in capsys.readouterr().err
