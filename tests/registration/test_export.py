import json

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.registration import export, transforms
from msi2he_jax.registration.export import Transform
from msi2he_jax.registration.transforms import Displacement

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
    export.write_transform(tmp_path, Transform(MATRIX, displacement, "by hand", {"tre": np.nan}))
    back = export.read_transform(tmp_path / "transform.json")
    before = transforms.apply_transform(MATRIX, displacement, POINTS)
    after = transforms.apply_transform(back.matrix, back.displacement, POINTS)
    np.testing.assert_allclose(after, before, atol=1e-9)
    assert (back.method, back.scores) == ("by hand", {"tre": None})


def test_json_holds_x_first(tmp_path):
    export.write_transform(tmp_path, Transform(transforms.from_parts(np.eye(2), (3.0, 8.0))))
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


def test_itk_files_map_points_in_simpleitk(tmp_path):
    import SimpleITK as sitk

    export.write_transform(tmp_path, Transform(MATRIX))
    there = transforms.apply_affine(MATRIX, POINTS)
    forward = sitk.ReadTransform(str(tmp_path / "msi_to_histology.tfm"))
    backward = sitk.ReadTransform(str(tmp_path / "histology_to_msi.tfm"))
    for (y, x), (fixed_y, fixed_x) in zip(POINTS, there):
        assert forward.TransformPoint((x, y)) == pytest.approx((fixed_x, fixed_y), abs=1e-6)
        assert backward.TransformPoint((fixed_x, fixed_y)) == pytest.approx((x, y), abs=1e-6)


def test_itk_resamples_an_image_as_warp_image_does(tmp_path):
    """Half a pixel as ITK origin is what makes both frames one: shows MSI on the slide's grid."""
    import SimpleITK as sitk

    msi_um, slide_um = 50.0, 30.0
    ramp = transforms.pixel_centers((24, 20), msi_um)
    image = np.sin(ramp[..., 0] / 200) + np.cos(ramp[..., 1] / 300)
    matrix = transforms.rotation(20, center_from=(600, 500), center_to=(700, 800))
    export.write_transform(tmp_path, Transform(matrix))
    ours = transforms.warp_image(
        image,
        source_um_per_px=msi_um,
        matrix_out_to_source=transforms.invert(matrix),
        out_shape=(45, 50),
        out_um_per_px=slide_um,
        fill=np.nan,
    )
    moving = sitk.GetImageFromArray(image)
    moving.SetSpacing((msi_um, msi_um))
    moving.SetOrigin((msi_um / 2, msi_um / 2))
    grid = sitk.Image(50, 45, sitk.sitkFloat64)
    grid.SetSpacing((slide_um, slide_um))
    grid.SetOrigin((slide_um / 2, slide_um / 2))
    back = sitk.ReadTransform(str(tmp_path / "histology_to_msi.tfm"))
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, grid, back, sitk.sitkLinear, np.nan))
    both = np.isfinite(ours) & np.isfinite(theirs)
    assert both.sum() > 500
    # ITK leaves out, and we hold, the outer half of the border pixels: compare inside
    np.testing.assert_allclose(ours[both], theirs[both], atol=1e-3)


def test_itk_written_elsewhere_is_read_with_its_centre(tmp_path):
    import SimpleITK as sitk

    theirs = sitk.AffineTransform(2)
    theirs.SetMatrix((0.9, 0.2, -0.1, 1.1))
    theirs.SetCenter((300.0, -50.0))
    theirs.SetTranslation((7.0, 11.0))
    sitk.WriteTransform(theirs, str(tmp_path / "t.tfm"))
    mapped = transforms.apply_affine(export.read_itk(tmp_path / "t.tfm"), POINTS)
    for (y, x), (got_y, got_x) in zip(POINTS, mapped):
        assert theirs.TransformPoint((x, y)) == pytest.approx((got_x, got_y))


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
        {"x_um": np.array([None, 1]), "y_um": [0.0, 1.0], "disp_um": np.zeros((2, 2, 2))},
    ],
)
def test_a_wrong_displacement_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(InputError, match="displacement"):
        export.read_displacement(tmp_path / "d.npz")


def test_other_itk_transforms_are_refused(tmp_path):
    path = tmp_path / "t.tfm"
    path.write_text(
        "#Insight Transform File V1.0\nTransform: Euler2DTransform_double_2_2\nParameters: 1 2 3\n"
    )
    with pytest.raises(InputError, match="Euler2D"):
        export.read_itk(path)
