"""A transform handed in, in whatever form, is the same transform."""

import json

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.registration import export, itk, transforms
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.registration.given import files_read, read_given
from msi2he_jax.registration.landmarks import Landmarks, write_landmarks
from msi2he_jax.registration.transforms import Displacement, Transform

MATRIX = transforms.rotation(30, mirrored=True, center_from=(900, 800), center_to=(2e3, 1500))
POINTS = np.random.default_rng(0).uniform(100, 1600, (20, 2))
GRID = np.linspace(0, 1700, 18)
FIELD = Displacement(
    GRID, GRID, 20 * np.sin(np.stack(np.meshgrid(GRID, GRID, indexing="ij"), -1) / 400)
)


def _same(found, field=None, atol=1e-6):
    wanted = transforms.apply_transform(MATRIX, field, POINTS)
    mapped = found.transform(POINTS)
    np.testing.assert_allclose(mapped, wanted, atol=atol)


@pytest.mark.parametrize("field", [None, FIELD])
def test_what_we_write_we_read(tmp_path, field):
    export.write_transform(tmp_path, TransformRecord(Transform(MATRIX, field)))
    _same(read_given(tmp_path / "transform.json"), field)
    _same(read_given(tmp_path), field)
    _same(read_given(tmp_path / "msi_to_histology.tfm"), field, atol=0.2)
    _same(read_given(tmp_path / "histology_to_msi.tfm"), field, atol=0.5)
    parts = ["transform.json", *(["displacement.npz"] if field else [])]
    assert [path.name for path in files_read(tmp_path)] == parts
    assert [path.name for path in files_read(tmp_path / "transform.json")] == parts
    assert files_read(tmp_path / "absent.json") == []


@pytest.mark.parametrize("ours_first", [True, False])
def test_numbers_in_any_layout(tmp_path, ours_first):
    matrix = transforms.swap_xy(MATRIX if ours_first else transforms.invert(MATRIX))
    maps = None if ours_first else "histology_to_msi"
    texts = [
        "\n".join(" ".join(map(repr, row)) for row in matrix.tolist()),
        ", ".join(repr(value) for value in matrix[:2].ravel().tolist()),
        json.dumps(matrix.tolist()),
    ]
    for text in texts:
        (tmp_path / "m.txt").write_text(text)
        _same(read_given(tmp_path / "m.txt", maps=maps))
    (tmp_path / "m.json").write_text(texts[-1])
    _same(read_given(tmp_path / "m.json", maps=maps))


def test_landmarks_give_their_affine(tmp_path):
    names, use = np.arange(20).astype(str), np.full(20, "fit")
    there = transforms.apply_affine(MATRIX, POINTS)
    write_landmarks(tmp_path / "l.csv", Landmarks(names, use, POINTS, there))
    found = read_given(tmp_path / "l.csv")
    _same(found, atol=1e-3)
    assert found.method == "control points"


def test_the_direction_of_a_foreign_itk_file_must_be_told(tmp_path):
    itk.write_itk(tmp_path / "t.tfm", Transform(MATRIX))
    with pytest.raises(InputError, match="does not say whether it maps MSI points"):
        read_given(tmp_path / "t.tfm")
    _same(read_given(tmp_path / "t.tfm", maps="msi_to_histology"))
    (tmp_path / "t.tfm").rename(tmp_path / "my_msi_to_histology.tfm")
    _same(read_given(tmp_path / "my_msi_to_histology.tfm"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "hello", "is no transform that we read"),
        ("a.txt", "[" * 100_000, "is no transform that we read"),
        ("a.txt", f"[1, 0, 0, 0, 1, 1{'0' * 400}]", "is no transform that we read"),
        ("a.txt", "1 2 3 4", "is not 3 x 3"),
        ("a.txt", "1 1 0 1 1 0 0 0 1", "cannot be inverted"),
        ("a.txt", "1 0 0 0 1 0 1 0 1", "last row"),
        ("a.json", "{}", "from: is None"),
        ("a.csv", "x,y\n1,2\n", "lacks name"),
    ],
)
def test_anything_else_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_given(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read_given(tmp_path / "absent.txt")


def test_a_transform_that_folds_is_not_turned_round(tmp_path):
    folding = Displacement(GRID, GRID, 40 * FIELD.disp_um)
    itk.write_itk(tmp_path / "histology_to_msi.tfm", Transform(MATRIX, folding))
    forward = read_given(tmp_path / "histology_to_msi.tfm", maps="msi_to_histology")
    assert forward.transform.displacement is not None
    with pytest.raises(InputError, match=r"histology_to_msi\.tfm: displacement: folds"):
        read_given(tmp_path / "histology_to_msi.tfm")


@pytest.mark.parametrize("far", [1e100, 1e13])
def test_an_itk_file_beyond_bounds_is_refused(tmp_path, far):
    huge = Displacement(GRID, GRID, np.full((18, 18, 2), far))
    itk.write_itk(tmp_path / "msi_to_histology.tfm", Transform(MATRIX, huge))
    with pytest.raises(InputError, match=r"displacement: holds numbers beyond 1e\+12 um"):
        read_given(tmp_path / "msi_to_histology.tfm")
    itk.write_itk(tmp_path / "msi_to_histology.tfm", Transform(far * MATRIX))
    with pytest.raises(InputError, match="matrix: "):
        read_given(tmp_path / "msi_to_histology.tfm")
