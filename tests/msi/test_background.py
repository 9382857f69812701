"""Background ions against masses worked out by hand."""

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.msi import background

H, C, N, OX, NA, K = (
    1.00782503223,
    12.0,
    14.00307400443,
    15.99491461957,
    22.989769282,
    38.9637064864,
)
F, SI, S, CL, E = 18.99840316273, 27.97692653465, 31.9720711744, 34.968852682, 0.000548579909


@pytest.mark.parametrize(
    ("name", "by_hand", "published"),
    [
        ("dhb", 7 * C + 7 * H + 4 * OX - E, 155.0339),  # [M+H]+
        ("dhb", 7 * C + 5 * H + 3 * OX - E, 137.0233),  # [M+H-H2O]+
        ("dhb", 14 * C + 9 * H + 6 * OX - E, 273.0394),  # [2M+H-2H2O]+
        ("dhb", 7 * C + 5 * H + 4 * OX + E, 153.0193),  # [M-H]-
        ("chca", 10 * C + 8 * H + N + 3 * OX - E, 190.0499),  # [M+H]+
        ("chca", 20 * C + 15 * H + 2 * N + 6 * OX - E, 379.0925),  # [2M+H]+
        ("chca", 10 * C + 7 * H + N + 3 * OX + K - E, 228.0058),  # [M+K]+
        ("9aa", 13 * C + 9 * H + 2 * N + E, 193.0771),  # [M-H]-
        ("9aa", 13 * C + 10 * H + 2 * N + CL + E, 229.0538),  # [M+Cl]-
        ("dan", 10 * C + 9 * H + 2 * N + E, 157.0771),  # [M-H]-
        ("dan", 10 * C + 10 * H + 2 * N - E, 158.0838),  # [M]+
        ("desi-positive", 8 * C + 5 * H + 3 * OX - E, 149.0233),  # phthalic anhydride
        ("desi-positive", 16 * C + 23 * H + 4 * OX - E, 279.1591),  # dibutyl phthalate
        ("desi-positive", 24 * C + 39 * H + 4 * OX - E, 391.2843),  # bis(2-ethylhexyl) phthalate
        ("desi-positive", 20 * C + 42 * H + 11 * OX + NA - E, 481.2619),  # PEG 10 [M+Na]+
        ("desi-positive", 12 * C + 36 * H + 6 * OX + 6 * SI + H - E, 445.1200),  # polysiloxane 6
        ("desi-positive", 2 * (C + H + 2 * OX + NA) + NA - E, 158.9641),  # sodium formate
        ("desi-negative", C + H + 2 * OX + E, 44.9982),  # formate
        ("desi-negative", 2 * C + 3 * H + 2 * OX + E, 59.0139),  # acetate
        ("desi-negative", 2 * C + 3 * F + 2 * OX + E, 112.9856),  # trifluoroacetate
        ("desi-negative", 12 * C + 25 * H + 4 * OX + S + E, 265.1479),  # dodecyl sulfate
        ("desi-negative", 18 * C + 29 * H + 3 * OX + S + E, 325.1843),  # C12 benzenesulfonate
        ("desi-negative", 2 * (C + H + 2 * OX) + NA + E, 112.9856),  # sodium formate
    ],
)
def test_mz_by_hand(name, by_hand, published):
    listed = np.array(background.named(name))
    assert np.abs(listed - by_hand).min() < 1e-8
    assert abs(by_hand - published) < 6e-5


@pytest.mark.parametrize("name", background.names())
def test_lists_are_sorted_unique_and_sourced(name):
    listed = background.named(name)
    assert list(listed) == sorted(set(listed))
    assert min(listed) > 40 and max(listed) < 1500
    for ion in background.ions(name):
        assert ion.source and ion.compound
        assert ion.mz == background.ion_mz(ion.formula, ion.adduct)
        assert ion.polarity == {"+": "positive", "-": "negative"}[ion.adduct[-1]]


def phospholipids():
    """Formulas of PC, PE, SM, PS and PI of 30 to 42 chain carbons, and lysoPC of 16 to 22."""
    for c in range(30, 43):
        for d in range(7):
            yield f"C{c + 8}H{2 * c + 16 - 2 * d}NO8P"
            yield f"C{c + 5}H{2 * c + 10 - 2 * d}NO8P"
            yield f"C{c + 6}H{2 * c + 10 - 2 * d}NO10P"
            yield f"C{c + 9}H{2 * c + 15 - 2 * d}O13P"
        yield from (f"C{c + 5}H{2 * c + 13 - 2 * d}N2O6P" for d in range(3))
    for c in range(16, 23, 2):
        yield from (f"C{c + 8}H{2 * c + 18 - 2 * d}NO7P" for d in range(7))


@pytest.mark.parametrize("name", background.names())
def test_no_background_ion_hides_a_common_lipid(name):
    listed = np.array(background.named(name))
    for formula in phospholipids():
        for adduct in ("[M+H]+", "[M+Na]+", "[M+K]+", "[M-H]-"):
            mz = background.ion_mz(formula, adduct)
            assert np.abs(listed / mz - 1).min() > 10e-6, (formula, adduct, mz)


def test_polarity_selects():
    both, positive = background.named("dhb"), background.named("dhb", "positive")
    assert set(both) == set(positive) | set(background.named("dhb", "negative"))
    assert not set(positive) & set(background.named("dhb", "negative"))
    assert background.named("desi-negative", "negative") == background.named("desi-negative")


def test_adducts():
    glucose = background.exact_mass("C6H12O6")
    assert glucose == pytest.approx(180.06338810, abs=1e-7)
    assert background.ion_mz("C6H12O6", "[M]+") == pytest.approx(glucose - E)
    assert background.ion_mz("C6H12O6", "[M+2H]2+") == pytest.approx((glucose + 2 * H) / 2 - E)
    assert background.ion_mz("C6H12O6", "[2M+Na-H2O]+") == pytest.approx(
        2 * glucose + NA - 2 * H - OX - E
    )
    assert background.ion_mz("C6H12O6", "[M-H]-") == pytest.approx(glucose - H + E)


def test_refusals():
    known = "one of dhb, chca, 9aa, dan, desi-positive, desi-negative"
    with pytest.raises(InputError, match=rf"background: is 'DHB' \({known}\)"):
        background.named("DHB")
    with pytest.raises(InputError, match="polarity: is '\\+' "):
        background.named("dhb", "+")
    with pytest.raises(InputError, match="desi-negative: holds no positive ion"):
        background.named("desi-negative", "positive")
    with pytest.raises(InputError, match="'c6h12' is not understood"):
        background.exact_mass("c6h12")
    with pytest.raises(InputError, match="formula: C6Xx: has no mass for Xx"):
        background.exact_mass("C6Xx")
    with pytest.raises(InputError, match="adduct: 'M\\+H' is not understood"):
        background.ion_mz("CH4", "M+H")


def test_a_row_that_is_no_ion_is_named(tmp_path, monkeypatch):
    table = tmp_path / "ions.csv"
    table.write_text(
        "list,compound,formula,adduct,source\nmine,x,C7H6O4,[M+H]+,y\nmine,x,C7,[M*]+,y\n"
    )
    monkeypatch.setattr(background, "_TABLE", table)
    background._lists.cache_clear()
    with pytest.raises(
        InputError, match=r"ions\.csv: row 3: adduct: '\[M\*\]\+' is not understood"
    ):
        background.named("mine")
    background._lists.cache_clear()
