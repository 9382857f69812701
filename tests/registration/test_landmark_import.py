"""Points of other software: where they end up in micrometres, and what is refused."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from msi2he_jax.errors import InputError
from msi2he_jax.registration import landmark_import
from msi2he_jax.registration.landmark_import import Scale

MSI, SLIDE = Scale((60.0, 50.0)), Scale((0.5, 0.5))
# One physical place per point: centre of pixel (row, column) of the image.
PIXELS = np.array([[0, 0], [10, 4], [3, 20], [17, 9]])


def _geojson(path, points, names=None, labels=None):
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": list(map(float, point))},
            "properties": {"name": names[i] if names else None, **_label(labels, i)},
        }
        for i, point in enumerate(points)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _label(labels, i):
    return {"classification": {"name": labels[i]}} if labels else {}


def _napari(path, yx, extra=""):
    rows = [f"{i}.0,{y},{x}{extra}" for i, (y, x) in enumerate(yx)]
    path.write_text("index,axis-0,axis-1" + (",note" if extra else "") + "\n" + "\n".join(rows))
    return path


def _itk(path, kind, xy):
    path.write_text("\n".join([kind, str(len(xy)), *(f"{x} {y}" for x, y in xy)]) + "\n")
    return path


def test_every_format_puts_a_pixel_in_one_place(tmp_path):
    """The centre of pixel (i, j) is at ((i + 0.5) um, (j + 0.5) um) whoever marked it."""
    expected = (PIXELS + 0.5) * MSI.um_per_px
    image = sitk.Image(32, 32, sitk.sitkUInt8)
    image.SetSpacing((50.0, 60.0))
    physical = [image.TransformIndexToPhysicalPoint((int(x), int(y))) for y, x in PIXELS]
    files = [
        _geojson(tmp_path / "a.geojson", (PIXELS + 0.5)[:, ::-1]),
        _napari(tmp_path / "a.csv", PIXELS, extra=",hello"),
        _itk(tmp_path / "index.txt", "index", PIXELS[:, ::-1]),
        _itk(tmp_path / "point.txt", "point", physical),
    ]
    kinds = []
    for file in files:
        points = landmark_import.read_points(file)
        kinds.append(points.kind)
        found = landmark_import.to_um(points.yx, points.kind, MSI)
        np.testing.assert_allclose(found, expected, atol=1e-9, err_msg=points.kind)
    assert kinds == ["qupath", "napari", "itk-index", "itk-point"]


def test_an_itk_image_as_we_export_it_needs_no_shift(tmp_path):
    """With origin um / 2, physical coordinates are ours: --origin=corner, no pixel size needed."""
    image = sitk.Image(32, 32, sitk.sitkUInt8)
    image.SetSpacing((50.0, 60.0))
    image.SetOrigin((25.0, 30.0))
    physical = [image.TransformIndexToPhysicalPoint((int(x), int(y))) for y, x in PIXELS]
    points = landmark_import.read_points(_itk(tmp_path / "p.pts", "point", physical))
    found = landmark_import.to_um(points.yx, points.kind, Scale(None, origin="corner"))
    np.testing.assert_allclose(found, (PIXELS + 0.5) * MSI.um_per_px)


@pytest.mark.parametrize("columns", [6, 7, 8, 9])
def test_bigwarp_columns_with_and_without_id_and_z(tmp_path, columns):
    path, ident, z = tmp_path / "l.csv", ',"0"' * (columns % 2), ',"0.0"' * (columns > 7)
    rows = [
        f'"Pt-{i}","true"{ident},"{50.0 * x}","{60.0 * y}"{z},"{2.0 * i}","{9.0 + i * i}"{z}'
        for i, (y, x) in enumerate(PIXELS)
    ]
    rows += [f'"Pt-8","false"{ident},"1","2"{z},"3","4"{z}']
    rows += [f'"Pt-9","true"{ident},"1","2"{z},"Infinity","Infinity"{z}']
    path.write_text("\n".join(rows) + "\n")
    points = landmark_import.read_bigwarp(path, MSI, SLIDE)
    assert list(points.name) == ["Pt-0", "Pt-1", "Pt-2", "Pt-3"]
    np.testing.assert_allclose(points.msi_yx_um, (PIXELS + 0.5) * MSI.um_per_px)
    np.testing.assert_allclose(points.histology_yx_um[2], [13.25, 4.25])
    turned = landmark_import.read_bigwarp(path, SLIDE, MSI, moving="histology")
    np.testing.assert_allclose(turned.histology_yx_um, points.msi_yx_um)


def test_units_of_physical_coordinates():
    half = np.array(MSI.um_per_px) / 2
    for unit, factor in (("um", 1.0), ("mm", 1e3), ("nm", 1e-3)):
        scale = Scale(MSI.um_per_px, unit)
        found = landmark_import.to_um(PIXELS, "bigwarp", scale)
        np.testing.assert_allclose(found, PIXELS * factor + half)
    found = landmark_import.to_um(PIXELS, "bigwarp", Scale(MSI.um_per_px, "px"))
    np.testing.assert_allclose(found, (PIXELS + 0.5) * MSI.um_per_px)


def test_named_points_pair_by_name_and_others_by_order(tmp_path):
    names, turned = ["a", "b", "c", "d"], [3, 1, 0, 2]
    labels = ["eval", "x", "x", "x"]
    msi = landmark_import.read_points(_geojson(tmp_path / "m.geojson", PIXELS[:, ::-1], names))
    slide = _geojson(
        tmp_path / "h.geojson",
        PIXELS[turned][:, ::-1],
        [names[i] for i in turned],
        [labels[i] for i in turned],
    )
    pairs = landmark_import.pair_points(msi, landmark_import.read_points(slide), MSI, SLIDE)
    np.testing.assert_allclose(pairs.msi_yx_um / (60, 50), pairs.histology_yx_um / (0.5, 0.5))
    assert list(pairs.name) == names
    assert list(pairs.use) == ["eval", "fit", "fit", "fit"]
    unnamed = landmark_import.read_points(_napari(tmp_path / "m.csv", PIXELS[turned]))
    pairs = landmark_import.pair_points(unnamed, landmark_import.read_points(slide), MSI, SLIDE)
    assert list(pairs.name) == [names[i] for i in turned]


def test_multipoints_of_qupath_are_read(tmp_path):
    path = tmp_path / "m.geojson"
    geometry = {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4, 0]]}
    area = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    path.write_text(json.dumps([{"geometry": geometry}, {"geometry": area, "properties": {}}]))
    points = landmark_import.read_points(path)
    np.testing.assert_array_equal(points.yx, [[2, 1], [4, 3]])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.geojson", "{", "is not valid JSON"),
        ("a.geojson", '{"features": []}', "holds none"),
        ("a.geojson", '{"features": [{"geometry": 3}]}', "as QuPath exports it"),
        (
            "a.geojson",
            '{"features": [{"geometry": {"type": "Point", "coordinates": ["x", 1]}}]}',
            "not pairs of numbers",
        ),
        ("a.csv", "index;axis-0;axis-1\n0;1,5;2\n", "separated by ';'"),
        ("a.csv", "x,y\n1,2\n", "QuPath GeoJSON, napari"),
        ("a.csv", "index,axis-0,axis-1\n0,1\n", "line 2: has 2 cells"),
        ("a.csv", "index,axis-0,axis-1\n0,1,nan\n", "line 2: 'nan' is not a finite"),
        ("a.csv", "", "is none of"),
        ("a.pts", "point\nmany\n1 2\n", "number of points was expected"),
        ("a.pts", "point\n3\n1 2\n", "says 3 points, and holds 1"),
        ("a.pts", "index\n1\n1 b\n", "'b' is not a number"),
    ],
)
def test_bad_point_files_are_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        landmark_import.read_points(tmp_path / name)


def test_numbers_and_names_must_match(tmp_path):
    one = landmark_import.read_points(_geojson(tmp_path / "a.geojson", PIXELS, list("abcd")))
    two = landmark_import.read_points(_geojson(tmp_path / "b.geojson", PIXELS[:3]))
    other = landmark_import.read_points(_geojson(tmp_path / "c.geojson", PIXELS, list("abce")))
    with pytest.raises(InputError, match=r"holds 3 points, .* holds 4"):
        landmark_import.pair_points(one, two, MSI, SLIDE)
    with pytest.raises(InputError, match="no point is called 'd'"):
        landmark_import.pair_points(one, other, MSI, SLIDE)


@pytest.mark.parametrize(
    ("kind", "scale", "said"),
    [
        ("qupath", Scale(None, flag="--msi_um_per_px"), "--msi_um_per_px: is required"),
        ("bigwarp", Scale(None), "from the centre of pixels"),
        ("bigwarp", Scale((1, 1), "inch"), "'inch' is not one of um, nm, mm, px"),
        ("bigwarp", Scale((1, 1), origin="left"), "'left' is not one of"),
    ],
)
def test_unknown_units_are_refused(kind, scale, said):
    with pytest.raises(InputError, match=said):
        landmark_import.to_um(PIXELS, kind, scale)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"Pt-0";"true";"1";"2";"3";"4"', "separated by ';'"),
        ("Pt-0,true,1,2,3", "has 5 cells"),
        ("Pt-0,true,1,2,x,4", "'x' is not a number"),
        ("Pt-0,false,1,2,3,4", "no pair that is switched on"),
    ],
)
def test_bad_bigwarp_files_are_refused(tmp_path, text, said):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        landmark_import.read_bigwarp(tmp_path / "l.csv", MSI, SLIDE)
