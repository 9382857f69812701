"""Alignment of one section from Python: what the pages show, and that there is one way only."""

import ast
import pathlib
import runpy
import shutil

import numpy as np
import pytest

import msi2he_jax as msi2he
from msi2he_jax import simulate
from msi2he_jax.coregistration import coregister as module
from msi2he_jax.coregistration.section_pair import SectionPair
from msi2he_jax.errors import InputError
from msi2he_jax.registration import automatic

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """The folder of one simulated section."""
    folder = tmp_path_factory.mktemp("one")
    flags = [f"--out={folder}", "--sections=1", "--grid=32", "--histology-um-per-px=12.5"]
    assert simulate.main([*flags, "--spectra=centroid", "--seed=5"]) == 0
    return folder


@pytest.fixture(scope="module")
def pair(cohort):
    sample = msi2he.read_manifest(cohort / "manifest.csv")[0]
    return msi2he.section_pair(sample, msi2he.msi_picture("pca", sample))


def _truth(cohort, name):
    return msi2he.read_transform(cohort / "truth" / name / "transform.json").transform


def test_the_lines_of_the_page_run(cohort, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "registration.md").read_text()
    lines = page.split("```python\n")[1].split("```")[0]
    shutil.copytree(cohort, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    pathlib.Path("found").mkdir()
    known = {}
    exec(lines, known)
    truth = _truth(cohort, known["sample"].sample_id)
    assert np.linalg.norm(known["on_slide_um"] - truth([[400.0, 900.0]])) < 100  # 2 MSI px
    written = msi2he.read_transform("found/transform.json")
    np.testing.assert_array_equal(written.transform.matrix, known["found"].transform.matrix)
    assert written.grids and written.scores["tre_median_um"] < 100


def test_the_example_prints_a_line_per_section(cohort, capsys):
    main = runpy.run_path(str(ROOT / "examples" / "coregister.py"))["main"]
    main([f"--manifest={cohort / 'manifest.csv'}"])
    assert "um off the eval landmarks, certain to" in capsys.readouterr().out


def test_what_registration_needs_is_made_once(pair, monkeypatch):
    """Bent, and judged by its uncertainty: one pair of images for both."""
    made, make_pair = [], automatic.make_pair
    monkeypatch.setattr(
        automatic, "make_pair", lambda *a, **k: made.append(1) or make_pair(*a, **k)
    )
    fresh = SectionPair(pair.sample, pair.moving, pair.slide)
    options = msi2he.CoregisterOptions("control-points", deformable=True)
    found = msi2he.coregister(fresh, options)
    assert found.uncertainty.median_um > 0 and found.scores["kept_affine"] in (True, False)
    assert len(made) == 1


def test_a_start_is_kept_as_it_is_or_searched_around(pair, cohort):
    truth = _truth(cohort, pair.sample.sample_id)
    given = msi2he.coregister(pair, msi2he.CoregisterOptions("given", start=truth))
    assert given.transform is truth and given.search is None
    assert given.method == "given of pca"
    near = msi2he.coregister(pair, msi2he.CoregisterOptions(start=truth))
    assert near.scores["tre_median_msi_px"] < 2
    assert pair.images.start is None  # the pair itself was not touched


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "by eye"}, "'by eye' is not one of automatic, control-points, given"),
        ({"method": "given"}, "given takes a start"),
        ({"metric": "mii"}, "'mii' is not one of"),
    ],
)
def test_options_that_make_no_sense(pair, options, said):
    with pytest.raises(InputError, match=said):
        msi2he.coregister(pair, msi2he.CoregisterOptions(**options))


def test_the_automatic_alignment_exists_once():
    """Nothing but `coregister` calls the engines; `automatic` has them for single pairs."""
    engines, callers = {"register_cohort", "register_affine", "register_deformable"}, set()
    for path in (ROOT / "msi2he_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in engines:
                callers.add(path)
    assert callers == {pathlib.Path(module.__file__), pathlib.Path(automatic.__file__)}
