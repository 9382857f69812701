"""Files moved through a transform end up where points do, displacement and all."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from msi2he_jax import register
from msi2he_jax.errors import InputError
from msi2he_jax.interop import transform_files as mover
from msi2he_jax.interop.ome_tiff import read_ome_tiff, write_ome_tiff
from msi2he_jax.interop.transform_files import ApplyOptions
from msi2he_jax.interop.write_image import image_writer
from msi2he_jax.registration import transforms
from msi2he_jax.registration.export import TransformRecord, write_transform
from msi2he_jax.registration.fields import Frame
from msi2he_jax.registration.transforms import Displacement, Transform

AXIS = np.linspace(0, 2000, 21)
FIELD = Displacement(
    AXIS, AXIS, 60 * np.sin(np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), axis=-1) / 500)
)
MATRIX = transforms.rotation(25, mirrored=True, center_from=(1e3, 1e3), center_to=(1500, 1400))
GRIDS = {"msi": Frame((40, 40), (50.0, 50.0)), "histology": Frame((250, 240), (12.5, 12.5))}
WHOLE = TransformRecord(Transform(MATRIX, FIELD), grids=GRIDS)
PLACES = np.array([[600.0, 700.0], [1300.0, 500.0], [1000.0, 1500.0]])
THERE = transforms.apply_transform(MATRIX, FIELD, PLACES)


def _blobs(shape, um, places):
    """One channel per place, brightest there."""
    centers = transforms.pixel_centers(shape, um)
    distance = np.linalg.norm(centers[..., None, :] - places, axis=-1)
    return (200 * np.exp(-((distance / 150) ** 2))).astype(np.float32)


def _brightest(image, um):
    found = [
        ndimage.center_of_mass(np.where(plane > 0.5 * plane.max(), plane, 0))
        for plane in np.moveaxis(image, -1, 0)
    ]
    return (np.array(found) + 0.5) * um


def _transformed(record, path, options, out):
    picture = mover.read_picture(path, record, options)
    shape, um = mover.plan_image(record, picture, options)
    drawn = mover.draw_image(record.transform, picture, shape, um, options)
    mover.write_picture(out, drawn, um, picture)
    return drawn, um


@pytest.mark.parametrize("grids", [{}, GRIDS])
def test_an_msi_image_lands_on_the_slide(tmp_path, grids):
    image = _blobs((40, 40), 50.0, PLACES)
    names = ["m/z 1", "m/z 2", "m/z 3"]
    write_ome_tiff(tmp_path / "a.ome.tif", image, um_per_px=50.0, channel_names=names)
    transform = TransformRecord(Transform(MATRIX, FIELD), grids=grids)
    out = tmp_path / "b.ome.tif"
    drawn, um = _transformed(transform, tmp_path / "a.ome.tif", ApplyOptions("histology"), out)
    assert tuple(um) == (12.5, 12.5)
    assert not grids or drawn.shape[:2] == GRIDS["histology"].shape
    assert np.abs(_brightest(drawn, um) - THERE).max() < 5
    back = read_ome_tiff(out)
    assert back.channel_names == tuple(names)
    assert back.um_per_px == pytest.approx((12.5, 12.5))
    np.testing.assert_array_equal(back.levels[0], drawn)


def test_a_slide_lands_on_the_msi(tmp_path):
    image = _blobs((250, 240), 12.5, THERE).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "slide_SYNTHETIC.png")
    options = ApplyOptions("msi", input_um_per_px=12.5, out_um_per_px=20.0)
    drawn, um = _transformed(WHOLE, tmp_path / "slide_SYNTHETIC.png", options, tmp_path / "b.png")
    assert drawn.shape == (100, 100, 3) and drawn.dtype == np.uint8
    assert np.abs(_brightest(drawn % 255, um) - PLACES).max() < 5
    assert "SYNTHETIC" in Image.open(tmp_path / "b.png").text["Title"]


def test_nearest_keeps_labels(tmp_path):
    labels = np.random.default_rng(0).choice([3, 90], (40, 40, 1)).astype(np.uint8)
    path, out = tmp_path / "l.ome.tif", tmp_path / "m.ome.tif"
    write_ome_tiff(path, labels, um_per_px=50.0, channel_names=["label"])
    drawn, _ = _transformed(WHOLE, path, ApplyOptions("histology", interpolation="nearest"), out)
    assert set(np.unique(drawn)) == {0, 3, 90}
    linear, _ = _transformed(WHOLE, path, ApplyOptions("histology"), out)
    assert len(np.unique(linear)) > 3


@pytest.mark.parametrize(
    ("to", "source", "target"), [("histology", PLACES, THERE), ("msi", THERE, PLACES)]
)
def test_points_land_where_they_belong(tmp_path, to, source, target):
    rows = [f"p{i},{x},{y}" for i, (y, x) in enumerate(source)]
    (tmp_path / "p.csv").write_text("\n".join(["name,x_um,y_um", *rows]))
    done = mover.transform_points(WHOLE, tmp_path / "p.csv", tmp_path / "q.csv", ApplyOptions(to))
    where = {"msi": "the MSI's pixel of least x and y", "histology": "the slide's first pixel"}
    assert done == f"3 points: CSV, x_um and y_um in um from the outer corner of {where[to]}"
    moved = np.loadtxt(tmp_path / "q.csv", delimiter=",", skiprows=1, usecols=(2, 1))
    np.testing.assert_allclose(moved, target, atol=1e-3)


def test_annotations_bend_and_come_back(tmp_path):
    corners = [[100, 100], [180, 100], [180, 160], [100, 100]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": {"name": "a"},
    }
    (tmp_path / "a.geojson").write_text(json.dumps(feature))
    there = ApplyOptions("msi", input_um_per_px=12.5)
    done = mover.transform_annotations(WHOLE, tmp_path / "a.geojson", tmp_path / "b.geojson", there)
    origin = "the outer corner of the MSI's pixel of least x and y"
    assert done == f"1 annotation: GeoJSON in pixels of the MSI of 50 um, from {origin}"
    known = {"frame": "msi", "unit": "pixels of the MSI", "um_per_px_xy": [50.0, 50.0]}
    written = json.loads((tmp_path / "b.geojson").read_text())
    assert written["coordinate_system"] == known | {"origin": origin}
    moved = json.loads((tmp_path / "b.geojson").read_text())["features"][0]
    ring = np.array(moved["geometry"]["coordinates"][0])
    assert len(ring) > 10 and moved["properties"] == {"name": "a"}
    wanted, _ = Transform(MATRIX, FIELD).invert_points(np.array(corners)[:, ::-1] * 12.5)
    assert np.abs(ring[0] - wanted[0, ::-1] / 50).max() < 1e-6
    back = ApplyOptions("histology", out_um_per_px=12.5)
    mover.transform_annotations(WHOLE, tmp_path / "b.geojson", tmp_path / "c.geojson", back)
    again = json.loads((tmp_path / "c.geojson").read_text())["features"][0]
    again = np.array(again["geometry"]["coordinates"][0])
    for corner in corners:
        assert np.linalg.norm(again - corner, axis=1).min() < 1e-4
    straight = TransformRecord(Transform(MATRIX), grids=GRIDS)
    mover.transform_annotations(straight, tmp_path / "a.geojson", tmp_path / "d.geojson", there)
    moved = json.loads((tmp_path / "d.geojson").read_text())["features"][0]
    assert len(moved["geometry"]["coordinates"][0]) == 4


def test_a_size_that_the_file_states_beats_that_of_the_msi(tmp_path):
    """Without one it is the MSI's, which is said."""
    image, to = np.full((32, 32, 3), 200, np.uint8), ApplyOptions("histology")
    tifffile.imwrite(
        tmp_path / "a.tif", image, photometric="rgb", resolution=(400, 400), resolutionunit=3
    )
    Image.fromarray(image).save(tmp_path / "a.png")
    stated = mover.read_picture(tmp_path / "a.tif", WHOLE, to)
    assert stated.um_per_px == pytest.approx((25.0, 25.0)) and not stated.warnings
    assumed = mover.read_picture(tmp_path / "a.png", WHOLE, to)
    assert assumed.um_per_px == pytest.approx((50.0, 50.0))
    assert assumed.warnings == ("states no pixel size: that of the MSI is taken, 50 um",)


def test_what_is_not_known_is_asked_for(tmp_path):
    (tmp_path / "a.geojson").write_text(
        '{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}'
    )
    bare = TransformRecord(Transform(MATRIX))
    files = tmp_path / "a.geojson", tmp_path / "b.geojson"
    with pytest.raises(InputError, match="--input_um_per_px: is required: the pixel size of the s"):
        mover.transform_annotations(WHOLE, *files, ApplyOptions("msi"))
    with pytest.raises(InputError, match="--out_um_per_px: is required: the pixel size of the MSI"):
        mover.transform_annotations(bare, *files, ApplyOptions("msi", input_um_per_px=1.0))
    with pytest.raises(InputError, match="'slide' is not one of msi, histology"):
        mover.points_mover(bare.transform, "slide")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="does not say its pixel size"):
        mover.read_picture(tmp_path / "a.png", bare, ApplyOptions("msi"))
    picture = mover.read_picture(
        tmp_path / "a.png", bare, ApplyOptions("msi", input_um_per_px=50.0)
    )
    with pytest.raises(InputError, match="choose a larger one"):
        mover.plan_image(WHOLE, picture, ApplyOptions("msi", out_um_per_px=1e-3))
    with pytest.raises(InputError, match=r"must end in \.ome\.tif"):
        image_writer("a.jpg")
    write_ome_tiff(
        tmp_path / "a.ome.tif", np.zeros((4, 4, 2), np.float32), um_per_px=5, channel_names="ab"
    )
    two = mover.read_picture(tmp_path / "a.ome.tif", bare, ApplyOptions("histology"))
    with pytest.raises(InputError, match="a PNG holds RGB only"):
        mover.write_picture(tmp_path / "b.png", two.pixels, (5, 5), two)


# To and fro from node to node, in the middle only.
SIGNS = (-1.0) ** np.add.outer(np.arange(21), np.arange(21))
MIDDLE = np.logical_and.outer(np.abs(AXIS - 1000) <= 300, np.abs(AXIS - 1000) <= 300)
FOLDING = Displacement(AXIS, AXIS, np.repeat((3000 * SIGNS * MIDDLE)[..., None], 2, axis=-1))


@pytest.fixture
def folding(tmp_path):
    """A transform.json that folds in the middle, and points, two of which lie there."""
    write_transform(tmp_path, TransformRecord(Transform(np.eye(3), FOLDING), grids=GRIDS))
    places = [[1020, 1030], [990, 1010], [100, 100]]
    rows = [f"{x},{y}" for x, y in places]
    (tmp_path / "points.csv").write_text("\n".join(["x_um,y_um", *rows]))
    px = (np.array(places) / 12.5).tolist()
    feature = {"type": "Feature", "geometry": {"type": "MultiPoint", "coordinates": px}}
    (tmp_path / "points.geojson").write_text(json.dumps(feature))
    Image.fromarray(np.full((250, 240, 3), 9, np.uint8)).save(tmp_path / "image.png")
    return tmp_path


@pytest.mark.parametrize("suffix", ["csv", "geojson"])
def test_points_of_a_fold_are_counted_in_one_line(folding, capsys, suffix):
    flags = [f"--apply={folding}", f"--input={folding / 'points'}.{suffix}", "--to=msi"]
    out = folding / f"out.{suffix}"
    assert register.main([*flags, f"--out={out}", "--input_um_per_px=12.5"]) == 2
    said = capsys.readouterr().err.strip()
    assert "the displacement: folds: 2 of 3 points have no one place there" in said
    assert len(said.splitlines()) == 1 and not out.exists()


@pytest.mark.parametrize("to", ["msi", "histology"])
def test_an_image_through_a_fold_is_drawn_with_a_warning(folding, capsys, to):
    flags = [f"--apply={folding}", f"--input={folding / 'image.png'}", "--input_um_per_px=12.5"]
    assert register.main([*flags, f"--to={to}", f"--out={folding / 'out.png'}"]) == 0
    assert "warning" in (said := capsys.readouterr().err) and "the displacement folds on " in said
    assert (np.asarray(Image.open(folding / "out.png")) == 9).any()


def test_a_nearly_affine_field_adds_no_points(tmp_path):
    slight = Displacement(AXIS, AXIS, 1e-3 * FIELD.disp_um)
    corners = [[100, 100], [180, 100], [180, 160], [100, 100]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]}}
    (tmp_path / "a.geojson").write_text(json.dumps(feature))
    for field, most in ((slight, 4), (FIELD, 60)):
        whole, options = (
            TransformRecord(Transform(MATRIX, field), grids=GRIDS),
            ApplyOptions("msi", input_um_per_px=12.5),
        )
        mover.transform_annotations(whole, tmp_path / "a.geojson", tmp_path / "b.geojson", options)
        moved = json.loads((tmp_path / "b.geojson").read_text())["features"][0]
        assert 4 <= len(moved["geometry"]["coordinates"][0]) <= most
