"""All ions against slides and sections that lost, gained or hide something: the pose is found."""

import numpy as np
import pytest

from msi2he_jax.registration.automatic import make_pair, register_cohort
from msi2he_jax.registration.evidence import read_evidence
from msi2he_jax.registration.transforms import Transform
from msi2he_jax.registration.verdict import RELIABLE, verdict_of
from tests.registration.ion_sections import SHAPE, SIZES, error_px, section

ROWS, COLUMNS = np.mgrid[:160, :160]
MSI_ROWS, MSI_COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]
GLASS, INK = 0.05, 2.5  # optical densities


def beside(ions, stains, tissue):
    """A pen mark beside the tissue, which the tissue mask took for tissue."""
    pen = (abs(ROWS - 8) < 3) & (COLUMNS > 40) & (COLUMNS < 120)
    return ions, np.where(pen[..., None], INK, stains), tissue | pen, None


def black_pen(ions, stains, tissue):
    """Two black strokes over the tissue."""
    pen = (abs(ROWS - COLUMNS) < 4) | (abs(ROWS + COLUMNS - 140) < 4)
    return ions, np.where(pen[..., None], INK, stains), tissue | pen, None


def holes(ions, stains, tissue):
    """Two pieces of tissue fell out of the slide after the measurement."""
    lost = (np.hypot(ROWS - 65, COLUMNS - 90) < 14) | (np.hypot(ROWS - 95, COLUMNS - 60) < 10)
    return ions, np.where(lost[..., None], GLASS, stains), tissue & ~lost, None


def strip(ions, stains, tissue):
    """A strip of the slide's tissue is missing."""
    lost = abs(ROWS - 60) < 8
    return ions, np.where(lost[..., None], GLASS, stains), tissue & ~lost, None


def two_pieces(ions, stains, tissue):
    """The slide's tissue is torn in two, and more tissue lies beside it."""
    lost = abs(COLUMNS - 80 - (ROWS - 80) // 5) < 4
    other = np.hypot(ROWS - 140, COLUMNS - 20) < 14
    stains = np.where(lost[..., None], GLASS, np.where(other[..., None], 1.0, stains))
    return ions, stains, (tissue & ~lost) | other, None


def part(ions, stains, tissue):
    """Only a part of the section was measured."""
    return ions, stains, tissue, MSI_ROWS < 22


def margin(ions, stains, tissue):
    """The measured region follows the tissue with a margin, whose rim has ions of its own."""
    center = np.array(SHAPE) / 2
    away = np.hypot(MSI_ROWS - center[0], MSI_COLUMNS - center[1])
    rim = np.exp(-(((away - 16) / 1.5) ** 2))
    return ions + 3 * rim[..., None] * np.linspace(-1, 1, ions.shape[-1]), stains, tissue, away < 18


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [beside, black_pen, holes, strip, two_pieces, part, margin])
def test_the_pose_is_found_all_the_same(spoil):
    ions, stains, tissue, inside = section(4)
    ions, stains, tissue, measured = spoil(ions, stains, tissue)
    pair = make_pair(ions, stains, None, tissue, moving_valid=measured, **SIZES)
    found = register_cohort([pair], metric="explained")[0]
    seen = inside if measured is None else inside & measured
    assert error_px(Transform(found.matrix), seen) < 0.7


@pytest.mark.slow
def test_a_mirror_symmetric_outline_leaves_the_sides_to_the_inside():
    """Round tissue: its outline fits at every angle and from behind; its inside only once."""
    ions, stains, tissue, inside = section(5, round_outline=True)
    pair = make_pair(ions, stains, None, tissue, **SIZES)
    found = register_cohort([pair], metric="explained")[0]
    assert error_px(Transform(found.matrix), inside) < 0.5
    assert verdict_of(read_evidence(pair, found.matrix)).word == RELIABLE
