"""What is written for elastix and SpatialData, where these are installed."""

import json

import numpy as np
import pytest

from msi2he_jax.registration import export, transforms
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.registration.fields import Frame
from msi2he_jax.registration.transforms import Displacement, Transform

MATRIX = transforms.rotation(
    -70, mirrored=True, scale=0.95, center_from=(1500, 1250), center_to=(2100, 2000)
)
FRAMES = {"msi": Frame((60, 50), (50.0, 50.0)), "histology": Frame((420, 400), (10.0, 10.0))}
POINTS = np.random.default_rng(0).uniform((300, 300), (2700, 2200), (40, 2))
CENTERS = transforms.pixel_centers(FRAMES["histology"].shape, 10.0)


def _field():
    y, x = np.linspace(25, 2975, 25), np.linspace(25, 2475, 21)
    yy, xx = np.meshgrid(y, x, indexing="ij")
    return Displacement(y, x, np.stack([120 * np.sin(xx / 600), 90 * np.cos(yy / 500)], -1))


def test_ngff_places_points_and_pixels(tmp_path):
    """By the specification's own words: an affine on (y, x), indices of pixel centres."""
    export.write_transform(tmp_path, TransformRecord(Transform(MATRIX), grids=FRAMES))
    content = json.loads((tmp_path / "ngff.json").read_text())
    known = {system["name"]: system for system in content["coordinateSystems"]}
    assert [axis["name"] for axis in known["msi"]["axes"]] == ["y", "x"]
    by_name = {each["name"]: each for each in content["coordinateTransformations"]}
    affine = np.array(by_name["msi_to_histology"]["affine"])
    found = POINTS @ affine[:, :2].T + affine[:, 2]
    np.testing.assert_allclose(found, transforms.apply_affine(MATRIX, POINTS))
    scale, shift = by_name["histology_pixels_to_histology"]["transformations"]
    placed = np.array([7, 3]) * scale["scale"] + shift["translation"]
    np.testing.assert_allclose(placed, CENTERS[7, 3])


@pytest.mark.interop
def test_spatialdata_reads_the_affine(tmp_path, real_library):
    """SpatialData 0.7.3 placed these points exactly where we do."""
    ngff = real_library("spatialdata.transformations.ngff.ngff_transformations")
    from spatialdata.transformations import Affine, BaseTransformation

    export.write_transform(tmp_path, TransformRecord(Transform(MATRIX), grids=FRAMES))
    content = json.loads((tmp_path / "ngff.json").read_text())["spatialdata"]
    forward, backward = content["coordinateTransformations"]
    there = transforms.apply_affine(MATRIX, POINTS)
    for each, points, wanted in ((forward, POINTS, there), (backward, there, POINTS)):
        read = ngff.NgffBaseTransformation.from_dict(each)
        assert np.abs(read.transform_points(points) - wanted).max() < 1e-6
    theirs = BaseTransformation.from_ngff(ngff.NgffBaseTransformation.from_dict(forward))
    assert isinstance(theirs, Affine)
    matrix = theirs.to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(matrix, transforms.swap_xy(MATRIX), atol=1e-9)


@pytest.mark.interop
@pytest.mark.parametrize("field", [None, _field()], ids=["affine", "field"])
def test_transformix_draws_msi_on_the_slide_as_we_do(tmp_path, monkeypatch, real_library, field):
    """itk-elastix 0.25.4 differed by 2e-6 MSI px for the affine, 0.004 with the field.

    What is drawn are ramps, so that the values are positions, which interpolation leaves alone.
    """
    real_library("itk.itkTransformixFilterPython")
    itk = real_library("itk")
    export.write_transform(tmp_path, TransformRecord(Transform(MATRIX, field), grids=FRAMES))
    monkeypatch.chdir(tmp_path)
    back, _ = Transform(MATRIX, field).invert_points(CENTERS)
    inside = np.all((back > 100) & (back < np.array([2900, 2400])), axis=-1)
    assert inside.sum() > 30_000
    for axis in (0, 1):
        ramp = transforms.pixel_centers(FRAMES["msi"].shape, 50.0)[..., axis]
        moving = itk.image_from_array(ramp.astype(np.float32))
        moving.SetSpacing([50.0, 50.0])
        moving.SetOrigin([25.0, 25.0])
        parameters = itk.ParameterObject.New()
        parameters.AddParameterFile("elastix_histology_to_msi.txt")
        drawn = itk.array_from_image(itk.transformix_filter(moving, parameters))
        assert drawn.shape == FRAMES["histology"].shape
        assert np.abs(drawn - back[..., axis])[inside].max() < 0.05 * 50
