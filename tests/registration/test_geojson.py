"""Annotations of QuPath: moved, and turned into the pixels that lie in them."""

import json

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.registration import geojson, transforms

SQUARE = [[0, 0], [100, 0], [100, 60], [0, 60], [0, 0]]
HOLE = [[20, 20], [40, 20], [40, 40], [20, 40], [20, 20]]


def _feature(kind, coordinates, name=None, label=None):
    properties = {"name": name, "classification": {"name": label} if label else None}
    return {
        "type": "Feature",
        "id": "x",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": properties,
    }


FEATURES = [
    _feature("Polygon", [SQUARE, HOLE], "A", "tumour"),
    _feature("Point", [5, 7, 1], "p"),
    _feature("MultiPolygon", [[[[200, 0], [210, 0], [210, 10]]], [HOLE]], None, "stroma"),
    _feature("LineString", [[0, 0], [0, 30]]),
]


@pytest.fixture
def path(tmp_path):
    geojson.write_features(tmp_path / "a.geojson", FEATURES, {"unit": "pixels"})
    return tmp_path / "a.geojson"


def test_holes_are_outside_and_parts_belong_together(path):
    features = geojson.read_features(path)
    first, second = geojson.regions_of(path, features, um_per_px=0.5)
    assert (first.name, first.label) == ("A", "tumour")
    assert (second.name, second.label) == ("region 2", "stroma")
    centers = transforms.pixel_centers((70, 230), 0.5)
    inside = first.contains(centers)
    assert inside.sum() == 100 * 60 - 20 * 20
    assert inside[59, 99] and not inside[30, 30] and not inside[60, 0]
    assert second.contains(centers).sum() == pytest.approx(20 * 20 + 50, abs=10)


def test_coordinates_move_and_all_else_stays(path):
    features = geojson.read_features(path)
    moved = geojson.map_features(features, lambda xy: 2 * xy + (1, 3), bending=None)
    assert moved[1]["geometry"]["coordinates"] == [11, 17]
    assert moved[0]["geometry"]["coordinates"][1][2] == [81, 83]
    assert moved[2]["geometry"]["coordinates"][0][0][0] == [401, 3]
    assert [feature["properties"] for feature in moved] == [f["properties"] for f in FEATURES]
    assert features == FEATURES


def test_edges_get_the_points_that_a_bend_needs_and_no_more(path):
    features = geojson.read_features(path)
    how = geojson.Bending(longest_px=0.5, tolerance_px=0.01)
    straight = geojson.map_features(features, lambda xy: 2 * xy + (1, 3), bending=how)
    assert straight == geojson.map_features(features, lambda xy: 2 * xy + (1, 3), bending=None)
    bent = geojson.map_features(features, _wave, bending=how)
    ring = np.array(bent[0]["geometry"]["coordinates"][0])
    assert 10 < len(ring) < 60
    exact = _wave(geojson.divided(np.array(SQUARE, float), 0.5))
    assert all(_distance(point, ring) <= 0.0101 for point in exact)
    assert {tuple(each) for each in _wave(np.array(SQUARE, float))} <= set(map(tuple, ring))


def _wave(xy):
    return xy + 0.3 * np.sin(xy[:, ::-1] / 20)


def _distance(point, line):
    """Of a point from a polyline."""
    start, along = line[:-1], np.diff(line, axis=0)
    share = np.clip(((point - start) * along).sum(1) / (along**2).sum(1), 0, 1)
    return np.linalg.norm(start + share[:, None] * along - point, axis=1).min()


def test_the_points_tried_are_counted_for_the_whole_file(monkeypatch):
    monkeypatch.setattr(geojson, "MOST_ADDED", 100)
    lines = [_feature("LineString", [[0, 0], [0, 60]]) for _ in range(2)]
    how = geojson.Bending(longest_px=1.0, tolerance_px=0.01)
    geojson.map_features(lines[:1], _wave, bending=how)
    with pytest.raises(InputError, match="would be divided into 120 parts, at most 100"):
        geojson.map_features(lines, _wave, bending=how)


def test_a_feature_alone_or_a_list_will_do(tmp_path):
    for content in (FEATURES[0], FEATURES, {"features": FEATURES}):
        (tmp_path / "a.json").write_text(json.dumps(content))
        assert geojson.read_features(tmp_path / "a.json")[0] == FEATURES[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "holds none"),
        ("text", "holds none"),
        ([3], "feature 1, geometry: is of type None"),
        ([_feature("Circle", [0, 0])], "is of type 'Circle'"),
        ([_feature("Polygon", [[0, 0], [1, 1]])], "not those of a Polygon"),
        ([_feature("Polygon", [[["a", 0]]])], "not those of a Polygon"),
        ([_feature("Point", None)], "not those of a Point"),
        ([_feature("Point", [1])], "not those of a Point"),
        ([_feature("Point", [1e308, 2])], "feature 1, coordinates: are beyond 1e\\+09 px"),
        ([FEATURES[0], _feature("Polygon", [[[0, float("nan")]]])], "feature 2, coordinates"),
    ],
)
def test_what_is_no_geojson_is_refused(tmp_path, content, said):
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        geojson.read_features(tmp_path / "a.geojson")


def test_points_alone_are_no_regions():
    with pytest.raises(InputError, match="holds no area"):
        geojson.regions_of("a.geojson", [FEATURES[1]], 1.0)


@pytest.mark.parametrize("far", [1e9, 1e308])
def test_an_edge_longer_than_any_image_is_refused(far):
    with pytest.raises(InputError, match="would be divided into"):
        geojson.divided(np.array([[0.0, 0.0], [far, far]]), 10.0)
