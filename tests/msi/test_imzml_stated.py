"""What an imzML states against what it holds: levels, number types, kinds, a third array, steps."""

import re

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.msi import imzml_values, imzml_xml
from msi2he_jax.msi.images import tic_image
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.msi.imzml_cache import cached_index
from msi2he_jax.msi.imzml_cross_check import compare_with_pyimzml

LEVEL = '<cvParam accession="MS:1000511" name="ms level" value="{}"/>'
TERMS = {
    1: '<cvParam accession="MS:1000579" name="MS1 spectrum"/>',
    2: '<cvParam accession="MS:1000580" name="MSn spectrum"/>',
}
GRID = [(x, y) for y in range(1, 7) for x in range(1, 9)]


def peaks(rng, count, points=20, low=150.0, high=850.0):
    """Centroid spectra of the same ions, 1 ppm apart."""
    ions = np.sort(rng.uniform(low, high, points))
    return [
        (np.sort(ions * (1 + rng.normal(0, 1e-6, points))), rng.integers(1, 1000, points) * 1.0)
        for _ in range(count)
    ]


def state(written, words):
    """Adds words to each spectrum's own parameters."""
    parts = written.path.read_text().split('<scanList count="1">')
    words = [*words, ""]
    text = "".join(part + word + '<scanList count="1">' for part, word in zip(parts, words))
    written.path.write_text(text.removesuffix('<scanList count="1">'))
    return written.path


# MS levels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["level", "term"])
def test_fragment_spectra_are_left_out(pair, said):
    rng = np.random.default_rng(0)
    spectra = peaks(rng, len(GRID))
    fragments = [i for i, (_, y) in enumerate(GRID) if y == 3]
    for i in fragments:
        spectra[i] = (np.array([50.1, 184.07]), np.array([1e6, 1e6]))
    levels = [2 if i in fragments else 1 for i in range(len(GRID))]
    words = [LEVEL.format(n) if said == "level" else TERMS[n] for n in levels]
    file = open_imzml(state(pair(spectra, GRID, mode="centroid"), words))
    assert file.n == 40 and not file.mask[2].any() and file.tic().max() < 1e5
    assert file.where(16) == "spectrum 25 (x 1, y 4)"
    name = "MS2" if said == "level" else "MSn"
    (warning,) = [each for each in file.warnings if "MS levels" in each]
    assert "40 MS1" in warning and f"8 {name}" in warning and "only the 40 MS1" in warning
    assert not any("belongs to no spectrum" in each for each in file.warnings)


@pytest.mark.parametrize("duplicates", ["refuse", "first", "sum"])
def test_levels_at_one_position_are_never_added(pair, duplicates):
    rng = np.random.default_rng(0)
    plain = peaks(rng, 6)
    both = [each for one in plain for each in (([50.0, 60.0], [1e6, 1e6]), one)]
    positions = [(x, y) for y in (1, 2, 3) for x in (1, 2) for _ in range(2)]
    words = [LEVEL.format(level) for _ in range(6) for level in (2, 1)]
    file = open_imzml(state(pair(both, positions), words), duplicates=duplicates)
    expected = [sum(intensity) for _, intensity in plain]
    np.testing.assert_allclose(tic_image(file).ravel(), expected)


def test_the_mode_of_fragments_does_not_count(pair):
    """Survey scans as profiles and fragments as peaks are usual."""
    modes = [
        '<cvParam accession="MS:1000127" name="centroid spectrum"/>',
        '<cvParam accession="MS:1000128" name="profile spectrum"/>',
    ]
    words = [modes[i % 2] + LEVEL.format(2 - i % 2) for i in range(6)]
    file = open_imzml(state(pair(mode=None), words))
    assert file.n == 3 and file.spectrum_type == "profile"


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([2] * 6, "fragment spectra: all 6 are of MS level above 1"),
        ([2, 0, 0, 0, 0, 0], "MS levels: 5 of no stated level, 1 MS2; only the 5 MS1 spectra are"),
    ],
)
def test_levels_that_are_odd(pair, levels, expected):
    words = [LEVEL.format(level) if level else "" for level in levels]
    file = open_imzml(state(pair(), words))
    assert any(each.startswith(expected) for each in file.warnings)


def test_several_levels_without_a_survey_are_refused(pair):
    path = state(pair(), [LEVEL.format(2 + i % 2) for i in range(6)])
    with pytest.raises(InputError, match=r"MS level: holds .* no MS1: 3 MS2, 3 MS3"):
        open_imzml(path)


def test_a_file_that_states_fragments_as_a_whole(pair):
    path = pair().edit("</fileContent>", TERMS[2] + "</fileContent>")
    assert any("states fragment spectra (MSn)" in each for each in open_imzml(path).warnings)


def test_templates_keep_levels_apart(pair, monkeypatch):
    words = [LEVEL.format(1 + (i % 3 == 0)) for i in range(len(GRID))]
    path = state(pair(positions=GRID), words)
    quick = imzml_xml.read_xml(path)
    monkeypatch.setattr(imzml_xml, "_TEMPLATES", 0)
    np.testing.assert_array_equal(quick.table, imzml_xml.read_xml(path).table)
    assert quick.column("level").tolist() == [1 + (i % 3 == 0) for i in range(len(GRID))]


# Number types -------------------------------------------------------------------------------------

TYPES = {
    "i2": ("IMS:1100001", "16-bit integer"),
    "f4": ("MS:1000521", "32-bit float"),
    "f8": ("MS:1000523", "64-bit float"),
    "i4": ("MS:1000519", "32-bit integer"),
    "i8": ("MS:1000522", "64-bit integer"),
}


def mislabel(written, group, stored, said):
    """States another number type for one of the two arrays."""
    text = written.path.read_text()
    start = text.index(f'<referenceableParamGroup id="{group}">')
    part = text[start:]
    for old, new in zip(TYPES[stored], TYPES[said], strict=True):
        part = part.replace(f'"{old}"', f'"{new}"', 1)
    written.path.write_text(text[:start] + part)
    return written.path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("stored", "said", "expected"),
    [
        (("f8", "f8"), ("f8", "i8"), "intensity array: read as 64-bit integer, as stated, gives 4"),
        (("f8", "f4"), ("f8", "i4"), "no counts; as 32-bit float it gives"),
        (("f8", "i4"), ("f8", "f4"), "no counts; as 32-bit integer it gives"),
        (("f8", "i8"), ("f8", "f8"), "no counts; as 64-bit integer it gives"),
        (("f4", "f4"), ("i4", "f4"), "m/z array: read as 32-bit integer, as stated, gives 1.1"),
        (("f8", "f4"), ("i8", "f4"), "no m/z; as 64-bit float it gives 1"),
    ],
)
def test_number_types_that_lie(pair, stored, said, expected, packed):
    spectra = peaks(np.random.default_rng(0), 6)
    written = pair(spectra, mz_type=stored[0], intensity_type=stored[1], packed=packed)
    assert open_imzml(written.path).n == 6
    mislabel(written, "m/z array", stored[0], said[0])
    mislabel(written, "intensity array", stored[1], said[1])
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        open_imzml(written.path)
    assert "the stated number type is wrong" in str(caught.value)


def test_counts_above_32767_in_16_bits(pair):
    counts = np.arange(100, 60_100, 3000).astype(np.uint16).view(np.int16)
    spectra = [(mz, counts) for mz, _ in peaks(np.random.default_rng(0), 6)]
    with pytest.raises(InputError, match="as 16-bit unsigned integer it gives 100 to 5"):
        open_imzml(pair(spectra, intensity_type="i2").path)


def test_the_other_byte_order(pair):
    spectra = [(mz.byteswap(), y) for mz, y in peaks(np.random.default_rng(0), 6)]
    with pytest.raises(InputError, match="no m/z; as 64-bit float, big-endian it gives 1"):
        open_imzml(pair(spectra).path)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("i4", [0, 1, 2_000_000_000]),
        ("i8", [3, 5, 4 * 10**18]),
        ("f4", [1e-12, 1e-9, 0]),
        ("f8", [1e25, 0, 1]),
        ("i1", [1, 2, 127]),
    ],
)
def test_unusual_counts_are_read(pair, kind, values):
    spectra = [(np.arange(100.0, 112.0), np.resize(np.array(values, kind), 12))] * 6
    file = open_imzml(pair(spectra, intensity_type=kind).path)
    np.testing.assert_allclose(file.spectrum(0)[1], spectra[0][1], rtol=1e-6)


def test_an_mz_beyond_any_ion_is_refused(pair):
    spectra = peaks(np.random.default_rng(0), 6)
    spectra[3][0][-1] = 2e6
    file = open_imzml(pair(spectra).path)
    with pytest.raises(InputError, match=r"m/z of point 20 is 2e\+06 \(less than 1e\+06 was"):
        file.tic() and file.mz_range


# A third array ------------------------------------------------------------------------------------


def with_third(written, values, name):
    """Adds an array to each spectrum, stored behind all others."""
    code = {"charge array": "MS:1000516"}.get(name, "MS:1003006")
    raw, parts = written.ibd.read_bytes(), written.path.read_text().split("</binaryDataArrayList>")
    for i in range(len(parts) - 1):
        size = len(values[i])
        parts[i] = parts[i].replace('<binaryDataArrayList count="2">', "<binaryDataArrayList>")
        parts[i] += (
            f'<binaryDataArray><cvParam accession="{code}" name="{name}" value=""/>'
            '<cvParam accession="MS:1000523" name="64-bit float" value=""/>'
            f'<cvParam accession="IMS:1000102" name="external offset" value="{len(raw)}"/>'
            f'<cvParam accession="IMS:1000103" name="external array length" value="{size}"/>'
            f'<cvParam accession="IMS:1000104" name="external encoded length" value="{8 * size}"/>'
            "</binaryDataArray>"
        )
        raw += np.asarray(values[i], "<f8").tobytes()
    written.ibd.write_bytes(raw)
    written.path.write_text("</binaryDataArrayList>".join(parts))
    return written.path


MOBILITY = "mean inverse reduced ion mobility array"


@pytest.mark.parametrize("name", ["charge array", MOBILITY])
def test_a_third_array_is_named_and_nothing_else_is_said(pair, name):
    spectra = peaks(np.random.default_rng(0), 6)
    path = with_third(pair(spectra, mode="centroid"), [np.ones(20)] * 6, name)
    file = open_imzml(path)
    assert file.warnings == [f"arrays that are not read: {name}"]
    for i, (mz, intensity) in enumerate(spectra):
        np.testing.assert_array_equal(file.spectrum(i)[0], mz)
        np.testing.assert_array_equal(file.spectrum(i)[1], intensity)


def test_a_third_array_is_kept_in_the_index(pair, monkeypatch):
    monkeypatch.setattr("msi2he_jax.msi.imzml_cache._LEAST_BYTES", 0)
    monkeypatch.setattr("msi2he_jax.msi.imzml_cache._QUIET_S", -1.0)
    written = pair(mode="centroid")
    path = with_third(written, [np.ones(30)] * 6, MOBILITY)
    first = cached_index(path, written.ibd)
    monkeypatch.setattr("msi2he_jax.msi.imzml_cache.read_xml", None)
    again = cached_index(path, written.ibd)
    np.testing.assert_array_equal(again.others, first.others)
    assert len(again.others) == 6 and again.other_names == first.other_names == [MOBILITY]


def in_mobility_order(spectra):
    """Each spectrum as two scans of its points, one behind the other."""
    return [
        (np.concatenate([mz[::2], mz[1::2]]), np.concatenate([y[::2], y[1::2]]))
        for mz, y in spectra
    ]


@pytest.mark.parametrize("shared", [False, True])
def test_points_in_order_of_mobility_are_sorted(pair, shared):
    spectra = peaks(np.random.default_rng(0), 6)
    spectra = [(spectra[0][0], y) for _, y in spectra] if shared else spectra
    written = pair(in_mobility_order(spectra), shared=shared, mode="centroid")
    mobility = [np.repeat([0.8, 0.9], 10)] * 6
    file = open_imzml(with_third(written, mobility, MOBILITY))
    assert any("order of ion mobility" in each for each in file.warnings)
    for i, (mz, intensity) in enumerate(spectra):
        np.testing.assert_array_equal(file.spectrum(i)[0], mz)
        np.testing.assert_array_equal(file.spectrum(i)[1], intensity)
    assert file.mz_range == (
        min(mz[0] for mz, _ in spectra),
        max(mz[-1] for mz, _ in spectra),
    )
    written.edit("<run>", "<instrumentConfigurationList></instrumentConfigurationList><run>")
    reference = '<binaryDataArray><referenceableParamGroupRef ref="third"/><cvParam'
    written.edit("<binaryDataArray><cvParam", reference)  # Without one, pyimzML does not read on.
    compare_with_pyimzml(file)


def test_profiles_in_order_of_mobility_are_refused(pair):
    written = pair(in_mobility_order(peaks(np.random.default_rng(0), 6)), mode="profile")
    path = with_third(written, [np.repeat([0.8, 0.9], 10)] * 6, MOBILITY)
    with pytest.raises(InputError, match=r"order of ion mobility .*sum them over mobility"):
        open_imzml(path)


def test_unsorted_points_without_mobility_stay_refused(pair):
    written = pair(in_mobility_order(peaks(np.random.default_rng(0), 6)))
    file = open_imzml(with_third(written, [np.ones(20)] * 6, "charge array"))
    with pytest.raises(InputError, match="m/z falls"):
        file.spectrum(0)


# Positions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (lambda x, y: (2 * x - 1, 2 * y - 1), "a step of 2 in x and 2 in y: about 1 of 4"),
        (lambda x, y: (x, 2 * y), "a step of 2 in y: about 1 of 2"),
        (lambda x, y: (3 * x, y), "a step of 3 in x"),
        (lambda x, y: (50 * x, 50 * y), "a step of 50 in x and 50 in y"),
        (lambda x, y: (10 * x + 4 * (y > 3), 10 * y), "a step of 10 in x and 10 in y"),
        (lambda x, y: (x if x < 5 else x + 500, y), None),
        (lambda x, y: divmod((37 * (8 * y + x)) ** 2 % 499, 25), None),
    ],
)
def test_positions_with_a_step(pair, place, expected):
    file = open_imzml(pair(positions=[place(x, y) for x, y in GRID]).path)
    found = [each for each in file.warnings if "positions have a step of" in each]
    assert (expected in found[0]) if expected else not found


def test_micrometres_beyond_the_grid(pair):
    path = pair(positions=[(5000 * x, 5000 * y) for x, y in GRID]).path
    with pytest.raises(InputError, match=r"step of 5000 in x .*divide the positions by the step"):
        open_imzml(path)


def test_regions_far_apart_say_how_to_go_on(pair):
    path = pair(positions=GRID + [(x + 40000, y + 30000) for x, y in GRID]).path
    with pytest.raises(InputError) as caught:
        open_imzml(path)
    assert "at x 1 to 8 and 40001 to 40008, y 1 to 6 and 30001 to 30006" in str(caught.value)
    assert "split the file, or allow more with --limits.grid_pixels=N" in str(caught.value)


@pytest.mark.parametrize(("x", "least"), [(-3, "x -3, y 1"), (0, "x 0, y 1")])
def test_a_position_before_the_first(pair, x, least):
    path = pair(positions=[(x, 1), *GRID[1:]]).path
    expected = f"positions start at {least}, though imzML counts them from 1"
    assert expected in open_imzml(path).warnings


# Profile or centroid ------------------------------------------------------------------------------


def profile(rng, kept=None):
    """One profile, 8 points a peak width; `kept` drops zeros between peaks."""
    mz = 200 * np.exp(np.arange(4000) * 20e-6)
    y = np.zeros(len(mz))
    for centre in rng.uniform(mz[0], mz[-1], 40):
        y += rng.gamma(2.0, 100.0) * np.exp(-(((mz / centre - 1) / 70e-6) ** 2) / 2)
    y[y < 1] = 0
    near = np.convolve(y > 0, [1, 1, 1], "same") > 0 if kept else np.ones(len(mz), bool)
    return mz[near], y[near]


@pytest.mark.parametrize("kept", [None, "peaks"])
@pytest.mark.parametrize("stated", ["centroid", "profile", None])
def test_profiles_are_known_by_their_points(pair, stated, kept):
    rng = np.random.default_rng(0)
    file = open_imzml(pair([profile(rng, kept) for _ in range(6)], mode=stated).path)
    assert file.spectrum_type == "profile"
    words = {
        "centroid": "the spectra are stated to be centroid, but their points lie as those of "
        "profile spectra",
        None: "their points lie as those of profile spectra",
    }
    assert any(words.get(stated, "") in each for each in [*file.warnings, ""])
    assert stated != "profile" or file.warnings == []


@pytest.mark.parametrize("stated", ["centroid", "profile"])
def test_centroids_are_known_by_their_points(pair, stated):
    spectra = peaks(np.random.default_rng(0), 6, points=300)
    file = open_imzml(pair(spectra, mode=stated).path)
    assert file.spectrum_type == "centroid"
    assert any("stated to be profile, but" in each for each in file.warnings) == (
        stated == "profile"
    )


def test_peaks_at_every_mass_number_are_as_stated(pair):
    """Even, but too far apart for a profile: chemical noise of peptides, and isotopes."""
    spectra = [(np.arange(600, 1200) * 1.00048 + 0.02, np.ones(600))] * 6
    for stated in ("centroid", "profile"):
        file = open_imzml(pair(spectra, mode=stated).path)
        assert file.spectrum_type == stated and file.warnings == []


def test_a_few_points_do_not_tell(pair):
    for stated in ("centroid", "profile"):
        file = open_imzml(pair(points=60, mode=stated).path)
        assert file.spectrum_type == stated and file.warnings == []


@pytest.mark.filterwarnings("error")
def test_signalling_nan_is_looked_at_without_a_warning():
    signalling = np.array([0x7FA00000], np.uint32).view(np.float32)
    assert not imzml_values._is_mz(signalling, ordered=True)
    assert not imzml_values._are_counts(signalling, stated=True)
