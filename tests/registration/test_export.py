import json

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.registration import export, transforms
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.registration.fields import Frame
from msi2he_jax.registration.transforms import Displacement, Transform

MATRIX = transforms.rotation(
    35, mirrored=True, scale=1.1, center_from=(400, 900), center_to=(5e3, 7e3)
)
POINTS = np.random.default_rng(0).uniform(0, 3000, (12, 2))


def field():
    grid = np.linspace(0, 3000, 7)
    disp = np.random.default_rng(1).normal(0, 30, (7, 6, 2))
    return Displacement(grid, grid[:6], disp)


@pytest.mark.parametrize("displacement", [None, field()])
def test_written_transform_maps_points_as_before(tmp_path, displacement):
    export.write_transform(
        tmp_path, TransformRecord(Transform(MATRIX, displacement), "by hand", {"tre": np.nan})
    )
    back = export.read_transform(tmp_path / "transform.json")
    before = transforms.apply_transform(MATRIX, displacement, POINTS)
    after = back.transform(POINTS)
    np.testing.assert_allclose(after, before, atol=1e-9)
    assert (back.method, back.scores) == ("by hand", {"tre": None})


def test_json_holds_x_first(tmp_path):
    export.write_transform(tmp_path, TransformRecord(Transform(transforms.translation((3.0, 8.0)))))
    content = json.loads((tmp_path / "transform.json").read_text())
    assert content["matrix"][0][2] == 8.0
    assert (content["axes"], content["unit"]) == ("xy", "micrometer")


def test_displacement_file_holds_x_first(tmp_path):
    disp = np.zeros((2, 3, 2))
    disp[1, 2] = (5.0, 9.0)  # dy, dx
    export.write_displacement(tmp_path / "d.npz", Displacement([0, 1], [0, 1, 2], disp))
    stored = np.load(tmp_path / "d.npz")
    assert stored["disp_um"].shape == (len(stored["y_um"]), len(stored["x_um"]), 2)
    np.testing.assert_array_equal(stored["disp_um"][1, 2], [9.0, 5.0])


GOOD = {
    "from": "msi",
    "to": "histology",
    "unit": "micrometer",
    "axes": "xy",
    "matrix": np.eye(3).tolist(),
    "displacement": None,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unit": "pixel"}, "unit"),
        ({"axes": "yx"}, "axes"),
        ({"from": "histology"}, "from"),
        ({"matrix": [[1, 0], [0, 1]]}, "3 x 3"),
        ({"matrix": "no"}, "3 x 3"),
        ({"matrix": np.diag([1.0, 1, 2]).tolist()}, "last row"),
        ({"matrix": [[1, 1, 0], [1, 1, 0], [0, 0, 1]]}, "inverted"),
        ({"displacement": "../elsewhere.npz"}, "leads out"),
        ({"displacement": "absent.npz"}, "no such file"),
        ({"grids": {"msi": {"shape": [3, 4], "um_per_px": [1, 1]}}}, "grids"),
        ({"grids": 5}, "grids"),
    ],
)
def test_a_wrong_transform_is_refused(tmp_path, change, said):
    path = tmp_path / "transform.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(InputError, match=said):
        export.read_transform(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"x_um": [0.0, 1.0], "y_um": [0.0, 1.0]},
        {"x_um": [0.0, 1.0], "y_um": [0.0, 1.0], "disp_um": np.zeros((3, 2, 2))},
        {"x_um": [1.0, 0.0], "y_um": [0.0, 1.0], "disp_um": np.zeros((2, 2, 2))},
        {"x_um": [0.0, 1.0], "y_um": [0.0, 1.0], "disp_um": np.full((2, 2, 2), np.nan)},
        {"x_um": [0.0, 1.0], "y_um": [0.0, 1.0], "disp_um": np.full((2, 2, 2), 1e300)},
        {"x_um": [0.0, 1e200], "y_um": [0.0, 1.0], "disp_um": np.zeros((2, 2, 2))},
        {"x_um": np.array([None, 1]), "y_um": [0.0, 1.0], "disp_um": np.zeros((2, 2, 2))},
    ],
)
def test_a_wrong_displacement_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(InputError, match="displacement"):
        export.read_displacement(tmp_path / "d.npz")


def test_every_form_is_written_where_the_grids_are_known(tmp_path):
    frames = {"msi": Frame((60, 50), (50.0, 50.0)), "histology": Frame((900, 800), (10.0, 10.0))}
    export.write_transform(tmp_path, TransformRecord(Transform(MATRIX), grids=frames))
    affine = {"transform.json", "ngff.json", "msi_to_histology.tfm", "histology_to_msi.tfm"}
    affine |= {"elastix_msi_to_histology.txt", "elastix_histology_to_msi.txt"}
    assert {path.name for path in tmp_path.iterdir()} == affine
    export.write_transform(tmp_path, TransformRecord(Transform(MATRIX, field()), grids=frames))
    more = {"displacement.npz", "msi_to_histology.mha", "histology_to_msi.mha"}
    assert {path.name for path in tmp_path.iterdir()} == affine | more
    assert json.loads((tmp_path / "transform.json").read_text())["grids"]["msi"] == {
        "shape": [60, 50],
        "um_per_px": [50.0, 50.0],
    }
    assert export.read_transform(tmp_path / "transform.json").grids == frames
    assert "affine part only" in json.loads((tmp_path / "ngff.json").read_text())["note"]


@pytest.mark.parametrize("scale", [1e-300, 1e308, 10**400, 1e-7])
def test_a_matrix_of_no_possible_scale_is_refused(scale):
    with pytest.raises(InputError, match="matrix: "):
        export.checked_matrix("t.json", [[scale, 0, 0], [0, scale, 0], [0, 0, 1]])
