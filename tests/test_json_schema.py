"""What JSON may hold: the first value that is of another kind is named, in one line."""

import json
import random
import sys

import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import read_json
from msi2he_jax.json_schema import COUNT, NUMBER, TEXT, Each, Maybe, check_json, choice

SCHEMA = {"a": COUNT, "b?": [NUMBER], "c": Each(Maybe(TEXT)), "d?": {"e": choice("x", 1)}}


def said(value) -> str:
    with pytest.raises(InputError) as caught:
        check_json("f", value, SCHEMA)
    return str(caught.value)


def test_what_fits_is_taken():
    check_json(
        "f", {"a": 0, "b": [1, 0.5], "c": {"k": None, "l": "m"}, "d": {"e": 1}, "z": 1}, SCHEMA
    )
    check_json("f", {"a": 0, "c": {}}, SCHEMA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": True}, "f: a: is true, expected a whole number, 0 or more"),
        ({"a": 10**400}, "f: a: is a number beyond all limits, expected a whole number, 0 or more"),
        (
            {"a": 10**5000},
            "f: a: is a number beyond all limits, expected a whole number, 0 or more",
        ),
        ({"b": [1, float("inf")]}, "f: b[1]: is inf, expected a finite number"),
        ({"b": {}}, "f: b: is an object, expected a list"),
        ({"c": []}, "f: c: is a list, expected an object"),
        ({"c": {"k": 1}}, "f: c.k: is 1, expected a text"),
        ({"d": {}}, "f: d.e: is missing"),
        ({"d": {"e": True}}, 'f: d.e: is true, expected "x" or 1'),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    assert said({"a": 0, "c": {}} | change) == message


def test_a_key_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "f.json").write_text('{"a": {"b": 1, "b": 2}}')
    with pytest.raises(InputError, match="'b' stands twice"):
        read_json(tmp_path / "f.json")


def test_readers_meet_every_kind_of_value(tmp_path, monkeypatch):
    """Readers that need no run; the campaign `json_types` does all, with a run."""
    monkeypatch.syspath_prepend(__file__.rsplit("/", 1)[0] + "/reliability")
    json_types = __import__("json_types")
    files = [json_types._points(tmp_path / "p.geojson"), json_types._region(tmp_path / "r.geojson")]
    files.append(json_types._unit(tmp_path / "unit"))
    files.append(_config(tmp_path / "config.json", json_types))
    files.append(_provenance(tmp_path, json_types))
    for file in files:
        cases = list(file.cases())
        for place, document in random.Random(0).sample(cases, min(len(cases), 700)):
            assert not file.fault(document), place
    sys.modules.pop("json_types")


def _config(path, json_types):
    from msi2he_jax import config

    path.write_text(json.dumps(config.default_config().to_dict()))
    return json_types.File(path, lambda: config.check_config(config.load_config(path)))


def _provenance(folder, json_types):
    from msi2he_jax.data.provenance import axis_of, read_provenance, warnings_of
    from msi2he_jax.data.recipe import recipe_of

    def read():
        record = read_provenance(folder)
        axis_of(record), recipe_of(record), warnings_of(record)

    file = json_types.File(folder / "provenance.json", read)
    (folder / "provenance.json").write_text(json.dumps(_record()))
    return file


def _record():
    recipe = {"preset": "paper", "lock_mz": [300.0], "seed": 0, "method": None, "force": False}
    sample = {"sample_id": "a", "group_id": "g", "split": "train", "shape": [4, 5], "doubts": ["x"]}
    return {
        "format": "msi2he_jax pairs 1",
        "axis": {"kind": "ppm", "step": 1e4, "bins": 141, "mz_min": 100.0, "mz_max": 400.0},
        "peaks": {name: [100.0, 101.0] for name in ("mz", "lower", "upper", "height")},
        "rebin": {"method": None, "gap_tol_da": None, "window": "bounds"},
        "normalization": "none",
        "scaling": {"transform": "sqrt", "scale": [1.0, 0.5]},
        "grid": {"fit_px": 0, "target_um_per_px": 50.0},
        "pad_value": 255,
        "recipe": recipe,
        "samples": [sample],
        "counts": {"train": 1, "validation": 0, "test": 0},
        "shards": {},
    }
