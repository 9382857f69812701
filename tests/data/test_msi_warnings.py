"""A manifest that contradicts its files, or takes several sections as one, is told so."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.msi_arrays import msi_pixel_size_um
from msi2he_jax.data.msi_warnings import msi_warnings, shared_file_warnings
from msi2he_jax.errors import InputError


def _file(size=(50.0, 50.0), mask=None):
    """What is looked at of an open imzML; `size` is (y, x)."""
    mask = np.ones((4, 4), bool) if mask is None else mask
    return SimpleNamespace(path=Path("a.imzML"), pixel_size_um=size, mask=mask, warnings=["odd"])


@pytest.mark.parametrize(
    ("own", "given", "cause"),
    [
        ((50.0, 50.0), (100.0, None), "given is 100 x 100 um (x, y), the file says 50 x 50 um;"),
        ((50.0, 100.0), (50.0, 100.0), "the file says 100 x 50 um: are x and y exchanged?"),
        ((0.05, 0.05), (50.0, None), "the file says 0.05 x 0.05 um: is one of them in nm or mm?"),
        ((50.0, 50.0), (None, 100.0), "given is 50 x 100 um (x, y), the file says 50 x 50 um;"),
    ],
)
def test_sizes_that_contradict_each_other_are_both_named(own, given, cause):
    first, said = msi_warnings(_file(own), *given, None)
    assert first == "odd" and cause in said and said.endswith("the given one is used")


@pytest.mark.parametrize("given", [(None, None), (50.4, None), (50.0, 50.0)])
def test_sizes_that_agree_are_no_matter(given):
    assert msi_warnings(_file(), *given, None) == ["odd"]
    assert msi_warnings(_file(size=None), 50.0, None, None) == ["odd"]


@pytest.mark.parametrize("given", [0.05, 50_000.0])
def test_a_size_in_nm_or_mm_is_refused(given):
    with pytest.raises(InputError) as caught:
        msi_pixel_size_um(_file(), given, None)
    assert f"is {given:g} x {given:g} um, the file says 50 x 50 um" in str(caught.value)
    assert msi_pixel_size_um(_file(size=(0.05, 0.05)), 50.0, None) == (50.0, 50.0)


def test_regions_apart_without_msi_roi_are_named():
    mask = np.zeros((30, 40), bool)
    mask[:10, :12], mask[15:30, 20:40], mask[0, 39] = True, True, True
    _, said = msi_warnings(_file(mask=mask), None, None, None)
    assert "holds 2 separate regions" in said and "(20,15,20,15; 0,0,12,10)" in said
    assert msi_warnings(_file(mask=mask), None, None, (0, 0, 12, 10)) == ["odd"]


def _sample(name, **changes):
    files = {"imzml": Path("run.imzML"), "histology": Path("slide.tif")}
    return Sample(name, name, **(files | changes))


def test_rows_that_take_all_of_a_shared_file_are_named():
    rows = [
        _sample("a", msi_roi=(0, 0, 9, 9), histology_roi=(0, 0, 9, 9)),
        _sample("b", msi_roi=(9, 0, 9, 9)),
        _sample("c", histology=Path("own.tif")),
    ]
    said = shared_file_warnings(rows)
    assert list(said) == ["c", "b"]
    assert said["c"] == [
        "msi_roi is empty, so all of run.imzML is taken, which a uses too: give each row its region"
    ]
    assert said["b"][0].startswith("histology_roi is empty, so all of slide.tif is taken, which a")
    assert shared_file_warnings(rows[:1]) == {}
