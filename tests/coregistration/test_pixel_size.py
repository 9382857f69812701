"""A stated MSI pixel size that is wrong by 2 is named in the verdict's reason."""

from pathlib import Path

import numpy as np
import pytest

from msi2he_jax.coregistration.coregister import CoregisterOptions, coregister
from msi2he_jax.coregistration.moving import IONS, MovingImage
from msi2he_jax.coregistration.section_pair import SectionPair
from msi2he_jax.data.manifest import Sample
from msi2he_jax.registration.slide import Slide
from msi2he_jax.registration.transforms import Transform
from msi2he_jax.registration.verdict import RELIABLE, wrong_size_words
from tests.registration.ion_sections import MSI_UM, SLIDE_UM, section


def pair_with(stated_um):
    ions, stains, tissue, _ = section(0)
    pixels = np.round(255 * 10.0 ** -np.concatenate([stains, stains[..., :1]], -1)).astype(np.uint8)
    slide = Slide(pixels, stains.mean(-1), tissue, SLIDE_UM, np.zeros(2))
    um = np.full(2, stated_um)
    measured = np.ones(ions.shape[:2], bool)
    moving = MovingImage(IONS, ions[..., :3], ions, measured, um, np.zeros(2), um)
    return SectionPair(Sample("a", "a", Path("a.imzML"), Path("a.png")), moving, slide)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_size_wrong_by_two_is_named(factor):
    found = coregister(pair_with(MSI_UM * factor)).verdict
    assert found.word != RELIABLE
    assert found.reason == wrong_size_words([MSI_UM * factor] * 2, 1 / factor)
    assert f"{MSI_UM:g} um instead of the stated {MSI_UM * factor:g} um" in found.reason


def test_no_other_size_is_tried_where_a_transform_was_given(monkeypatch):
    """Nor where the stated size leads to a reliable alignment."""

    def never(*_, **__):
        raise AssertionError("searched again")

    pair = pair_with(MSI_UM)
    found = coregister(pair, CoregisterOptions(method="given", start=_wrong()))
    monkeypatch.setattr("msi2he_jax.coregistration.coregister.register_cohort", never)
    assert found.verdict.word != RELIABLE


def _wrong() -> Transform:
    return Transform(np.array([[1.0, 0, 300.0], [0, 1.0, -200.0], [0, 0, 1.0]]))


def test_both_sizes_of_long_pixels_are_said():
    assert wrong_size_words([50.0, 100.0], 2.0).startswith(
        "with MSI pixels of 100 x 200 um instead"
    )
