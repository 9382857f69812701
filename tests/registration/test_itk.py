"""What is written for ITK, read by SimpleITK: the same points, the same picture."""

import numpy as np
import pytest
import SimpleITK as sitk

from msi2he_jax.errors import InputError
from msi2he_jax.registration import export, itk, mha, transforms
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.registration.fields import Frame
from msi2he_jax.registration.transforms import Displacement, Transform

MSI_UM, SLIDE_UM = 50.0, 10.0
FRAMES = {"msi": Frame((60, 50), (MSI_UM,) * 2), "histology": Frame((420, 400), (SLIDE_UM,) * 2)}
MATRIX = transforms.rotation(
    35, mirrored=True, scale=1.05, center_from=(1500, 1250), center_to=(2100, 2000)
)
POINTS = np.random.default_rng(0).uniform((0, 0), (3000, 2500), (300, 2))


def smooth_field(even=True):
    """Bends by up to 120 um; folds nowhere."""
    y = np.linspace(25, 2975, 25) if even else 25 + 2950 * np.linspace(0, 1, 25) ** 1.3
    x = np.linspace(25, 2475, 21)
    yy, xx = np.meshgrid(y, x, indexing="ij")
    disp = np.stack([120 * np.sin(xx / 600), 90 * np.cos(yy / 500) + 40 * np.sin(xx / 300)], -1)
    return Displacement(y, x, disp)


@pytest.fixture(scope="module", params=["affine", "even field", "uneven field"])
def written(request, tmp_path_factory):
    """A folder of exports, and the transform in it."""
    folder = tmp_path_factory.mktemp("exports")
    field = None if request.param == "affine" else smooth_field(request.param == "even field")
    export.write_transform(folder, TransformRecord(Transform(MATRIX, field), grids=FRAMES))
    return folder, field


def _mapped(transform, points_yx):
    return np.array([transform.TransformPoint((x, y))[::-1] for y, x in points_yx.tolist()])


def test_simpleitk_maps_points_both_ways_to_a_twentieth_of_a_pixel(written):
    folder, field = written
    there = transforms.apply_transform(MATRIX, field, POINTS)
    forward = sitk.ReadTransform(str(folder / "msi_to_histology.tfm"))
    backward = sitk.ReadTransform(str(folder / "histology_to_msi.tfm"))
    assert np.abs(_mapped(forward, POINTS) - there).max() < 0.05 * SLIDE_UM
    assert np.abs(_mapped(backward, there) - POINTS).max() < 0.05 * MSI_UM


def test_fields_alone_hold_all_of_the_transform(written):
    folder, field = written
    if field is None:
        assert not list(folder.glob("*.mha"))
        return
    there = transforms.apply_transform(MATRIX, field, POINTS)
    maps = {}
    for name in ("msi_to_histology", "histology_to_msi"):
        image = sitk.ReadImage(str(folder / f"{name}.mha"))
        assert image.GetPixelID() == sitk.sitkVectorFloat64
        maps[name] = sitk.DisplacementFieldTransform(image)
    assert np.abs(_mapped(maps["msi_to_histology"], POINTS) - there).max() < 0.05 * SLIDE_UM
    inside = np.all((there > 0) & (there < FRAMES["histology"].extent_um), axis=1)
    assert inside.sum() > 250
    found = _mapped(maps["histology_to_msi"], there[inside])
    assert np.abs(found - POINTS[inside]).max() < 0.05 * MSI_UM


def _itk_image(array, um):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((um, um))
    image.SetOrigin((um / 2, um / 2))
    return image


def test_itk_draws_msi_on_the_slide_as_we_do(written):
    """Half a pixel as ITK origin is what makes both frames one."""
    folder, field = written
    msi = transforms.pixel_centers(FRAMES["msi"].shape, MSI_UM)
    msi = np.sin(msi[..., 0] / 400) + np.cos(msi[..., 1] / 500)
    backward = Transform(MATRIX, field).inverse()
    ours = backward.warp(
        msi,
        source_um_per_px=MSI_UM,
        out_shape=FRAMES["histology"].shape,
        out_um_per_px=SLIDE_UM,
        fill=np.nan,
    )
    to_msi = sitk.ReadTransform(str(folder / "histology_to_msi.tfm"))
    grid = _itk_image(np.zeros(FRAMES["histology"].shape), SLIDE_UM)
    theirs = sitk.Resample(_itk_image(msi, MSI_UM), grid, to_msi, sitk.sitkLinear, np.nan)
    theirs = sitk.GetArrayFromImage(theirs)
    both = np.isfinite(ours) & np.isfinite(theirs)
    assert both.sum() > 50_000
    # the picture changes by up to an eighth per MSI pixel: this is far below a twentieth of one
    np.testing.assert_allclose(ours[both], theirs[both], atol=2e-3)


def test_a_written_transform_is_read_back(written):
    folder, field = written
    back = itk.read_itk(folder / "msi_to_histology.tfm")
    np.testing.assert_allclose(back.matrix, MATRIX, atol=1e-12)
    assert (back.displacement is None) == (field is None)
    there = transforms.apply_transform(MATRIX, field, POINTS)
    np.testing.assert_allclose(back(POINTS), there, atol=0.5)


def _others():
    affine, similarity = sitk.AffineTransform(2), sitk.Similarity2DTransform()
    affine.SetMatrix((0.9, 0.2, -0.1, 1.1))
    affine.SetCenter((300.0, -50.0))
    affine.SetTranslation((7.0, 11.0))
    similarity.SetAngle(0.4)
    similarity.SetScale(1.3)
    similarity.SetCenter((500.0, 700.0))
    similarity.SetTranslation((-40.0, 90.0))
    euler = sitk.Euler2DTransform((100.0, 200.0), -1.1, (5.0, 6.0))
    shift = sitk.TranslationTransform(2, (12.0, -3.0))
    return [affine, similarity, euler, shift, sitk.CompositeTransform([affine, similarity, shift])]


@pytest.mark.parametrize("theirs", _others(), ids=lambda transform: transform.GetName())
def test_transforms_of_simpleitk_are_read_with_their_centres(tmp_path, theirs):
    sitk.WriteTransform(theirs, str(tmp_path / "t.tfm"))
    found = itk.read_itk(tmp_path / "t.tfm")
    assert found.displacement is None
    np.testing.assert_allclose(found(POINTS), _mapped(theirs, POINTS), atol=1e-6)


HEAD = "#Insight Transform File V1.0\nTransform: "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds none"),
        (HEAD + "BSplineTransform_double_2_2\nParameters: 1 2\n", "BSplineTransform"),
        (HEAD + "AffineTransform_double_3_3\nParameters: 1 2\n", "AffineTransform_double_3_3"),
        (HEAD + "AffineTransform_double_2_2\nParameters: 1 2\n", "6 numbers were expected"),
        (HEAD + "AffineTransform_double_2_2\nParameters: 1 0 0 1 x 0\n", "not all finite"),
        (HEAD + "AffineTransform_double_2_2\nParameters: 1 1 1 1 0 0\n", "cannot be inverted"),
        (HEAD + "DisplacementFieldTransform_double_2_2\nParameters: 1\n", "no turn were expected"),
    ],
)
def test_other_files_are_refused(tmp_path, text, said):
    (tmp_path / "t.tfm").write_text(text)
    with pytest.raises(InputError, match=said):
        itk.read_itk(tmp_path / "t.tfm")


def test_fields_written_by_simpleitk_are_read(tmp_path):
    field = smooth_field()
    mha.write_mha(tmp_path / "ours.mha", field)
    image = sitk.ReadImage(str(tmp_path / "ours.mha"))
    for kind in (sitk.sitkVectorFloat64, sitk.sitkVectorFloat32):
        sitk.WriteImage(sitk.Cast(image, kind), str(tmp_path / "theirs.mha"))
        back = mha.read_mha(tmp_path / "theirs.mha")
        np.testing.assert_allclose(back.disp_um, field.disp_um, atol=1e-4)
        np.testing.assert_allclose(back.y_um, field.y_um)
        np.testing.assert_allclose(back.x_um, field.x_um)


def test_damaged_fields_are_refused(tmp_path):
    path = tmp_path / "f.mha"
    mha.write_mha(path, smooth_field())
    whole = path.read_bytes()
    for damaged, said in (
        (whole[:-8], "bytes"),
        (b"hello", "header"),
        (whole.replace(b"DimSize = 21 25", b"DimSize = 0 25"), "header"),
        (whole.replace(b"Compressed", b"XXpressed").replace(b"LOCAL", b"f.raw"), "header"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=said):
            mha.read_mha(path)
    with pytest.raises(InputError, match="not evenly spaced"):
        mha.write_mha(path, smooth_field(even=False))
