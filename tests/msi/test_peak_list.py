"""Lists of m/z as they come from elsewhere, and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import mass_axis
from msi2he_jax.msi.peak_list import PeakList, peaks_at, read_peak_list, write_peak_list
from msi2he_jax.msi.peaks import Peaks

METASPACE = """# Generated at 11/23/2026 1:02:03 PM.
# URL: https://metaspace2020.org/annotations?ds=2026-11-23_01h02m03s
"group","datasetName","datasetId","formula","adduct","chemMod","ion","mz","msm","fdr",\
"rhoSpatial","rhoSpectral","rhoChaos","moleculeNames","moleculeIds"
"","a ""b"", c","2026","C47H83O13P","M-H","","C47H83O13P-H-","885.549852","0.99","0.05",\
"0.9","0.9","0.9","PI(38:4), PI(18:0/20:4)","1, 2"
"","d","2026","C47H83O13P","M-H","","C47H83O13P-H-","885.549852","0.98","0.1",\
"0.9","0.9","0.9","PI(16:0/22:4)","3"
"","d","2026","C18H34O2","M-H","","C18H34O2-H-","281.248604","0.5","0.2",\
"0.9","0.9","0.9","Oleic
acid","4"
"","d","2026","C6H12O6","M+Cl","","","215.032790","0.4","","0.9","0.9","0.9","Hexose","5"
"""
AXIS = mass_axis("ppm", mz_min=100, mz_max=1000, step=10)


@pytest.fixture
def written(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "list.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_metaspace_annotations(written):
    found = read_peak_list(written(METASPACE))
    np.testing.assert_array_equal(found.mz, [215.03279, 281.248604, 885.549852])
    assert found.names == ("C6H12O6 M+Cl", "C18H34O2-H-", "C47H83O13P-H-")
    assert found.windows is None


@pytest.mark.parametrize(("max_fdr", "count"), [(0.05, 1), (0.1, 1), (0.2, 2), (1, 2)])
def test_false_discovery_rate(written, max_fdr, count):
    assert len(read_peak_list(written(METASPACE), max_fdr=max_fdr)) == count


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "lines",
    [
        ["mz,name", "885.5499,Säure", "100.5,b"],
        ["name;m/z", "Säure;885,5499", "b;100,5"],
        ["# SCiLS", "", "M/Z\tName", "885.5499\tSäure", "100.5\tb", ""],
        ['"m/z","Name"', '"885.5499","Säure"', '"100.5","b"'],
        ["885.5499 Säure", "100.5 b"],
        ["885,5499;Säure", "100,5;b"],
        ["885.5499,Säure", "# no", "100.5,b", ",,"],
    ],
)
def test_spellings(written, lines, end, encoding):
    found = read_peak_list(written(end.join(lines), encoding))
    assert found.mz.tolist() == [100.5, 885.5499]
    assert found.names == ("b", "Säure")


def test_one_per_line_merged_and_sorted(written):
    found = read_peak_list(written("300.1\n\n200\n300.10001\n300.2\n  2e2 \n"))
    assert found.mz.tolist() == [200, 300.1, 300.2]
    assert found.names == ("", "", "")
    names = read_peak_list(written("mz,name\n5,a\n5,b\n5,a\n5,")).names
    assert names == ("a / b",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.csv: holds no m/z"),
        ("# only this\n;;\n", "list.csv: holds no m/z"),
        ("mz\n", "list.csv: holds no m/z"),
        ("# c\nmass,name\n1,a", "line 2: 'mass,name' has no column mz (name the column mz,"),
        ("mz\n100\nabc\n", "line 3, mz: is 'abc', a number was expected"),
        ("# c\n100\n\n1oo\n", "line 4, mz: is '1oo', a number was expected"),
        ("name,mz\na\n", "line 2, mz: is '', a number was expected"),
        ("mz\n-5", "line 2, mz: is -5, not an m/z"),
        ("mz\n1e99", "line 2, mz: is 1e+99, not an m/z"),
        ("mz\nnan", "line 2, mz: is 'nan', a number was expected"),
        ('mz,name\n"1,234",a', "line 2, mz: is '1,234', a number was expected"),
        ("885,5499\n100,5", "line 1: '885,5499' can be read in two ways (write 885.55 for"),
        ("885,55 PI 38:4", "line 1: '885,55 PI 38:4' can be read in two ways"),
        ("mz,lower,upper\n5,6,7", "line 2, lower and upper: 6.0 to 7.0 does not hold its m/z 5.0"),
        ("mz\n1\0", "is not a text file (save the table as CSV)"),
    ],
)
def test_what_is_wrong_is_said(written, text, message):
    with pytest.raises(InputError) as error:
        read_peak_list(written(text))
    assert message in str(error.value)


def test_limits_that_cannot_be_kept(written, tmp_path):
    with pytest.raises(InputError, match=r"no annotation has fdr up to 0\.01"):
        read_peak_list(written(METASPACE), max_fdr=0.01)
    for text in ("mz\n5", "5"):
        with pytest.raises(InputError, match="fdr: there is no such column"):
            read_peak_list(written(text), max_fdr=0.1)
    with pytest.raises(InputError, match="max_fdr: is 5, must be above 0 and at most 1"):
        read_peak_list(written(METASPACE), max_fdr=5)
    with pytest.raises(InputError, match="no such file"):
        read_peak_list(tmp_path / "absent.csv")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(1.0, 3000.0), min_size=1, max_size=20, unique=True),
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])), min_size=20),
)
def test_written_lists_read_back(tmp_path_factory, mz, names):
    mz = np.sort(mz)
    mz = mz[np.append(True, np.diff(mz) > 1e-6 * mz[1:])]
    names = [name.strip() for name in names[: len(mz)]]
    peaks = Peaks(mz, mz * 0.999, mz * 1.001, np.arange(len(mz)) / 3)
    path = tmp_path_factory.getbasetemp() / "peaks.csv"
    write_peak_list(path, peaks, names)
    found = read_peak_list(path)
    np.testing.assert_array_equal(found.mz, mz)
    np.testing.assert_array_equal(found.windows, np.stack([peaks.lower, peaks.upper], 1))
    assert found.names == tuple(names)


def test_columns_written(tmp_path):
    write_peak_list(tmp_path / "p.csv", Peaks(*np.array([[5.5], [5], [6], [0.1]])))
    assert (tmp_path / "p.csv").read_text() == "mz,lower,upper,height\n5.5,5.0,6.0,0.1\n"
    with pytest.raises(InputError, match="name: has 2 values for 1 peaks"):
        write_peak_list(tmp_path / "p.csv", Peaks(*np.ones((4, 1))), ["a", "b"])


def test_windows_around_given_mz():
    spectrum = np.zeros(len(AXIS.mz))
    spectrum[AXIS.nearest(np.array([500.0]))] = 7
    peaks = peaks_at(AXIS, np.array([500.0, 200.0]), 20, spectrum=spectrum)
    np.testing.assert_allclose(peaks.mz, [200, 500])
    np.testing.assert_allclose(peaks.lower, [199.996, 499.99])
    np.testing.assert_allclose(peaks.upper, [200.004, 500.01])
    assert peaks.height.tolist() == [0, 7]
    assert peaks_at(AXIS, np.array([500.0]), 0.01, spectrum=spectrum).height.tolist() == [7]
    assert peaks_at(AXIS, np.array([500.0]), 20).height.tolist() == [0]


def test_a_lists_own_windows_are_kept():
    listed = PeakList(np.array([200.0]), ("a",), np.array([[199.0, 202.0]]))
    peaks = peaks_at(AXIS, listed, 20)
    assert (peaks.lower.tolist(), peaks.upper.tolist()) == ([199.0], [202.0])


def test_refused_lists():
    with pytest.raises(InputError, match="mz: is empty"):
        peaks_at(AXIS, np.zeros(0), 20)
    with pytest.raises(InputError, match="ppm: is 0, must be positive"):
        peaks_at(AXIS, np.array([200.0]), 0)
    with pytest.raises(InputError, match="mz: 50, 2000 outside the mass axis, 100 to 1000"):
        peaks_at(AXIS, np.array([50.0, 200, 2000]), 20)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60)
    | st.text(st.sampled_from('mz/,;\t"\n\r#10.5e \ufefflowerupfdn'), max_size=60).map(
        lambda text: text.encode()
    )
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(raw)
    try:
        found = read_peak_list(path)
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert len(found) == len(found.names) > 0
        assert np.isfinite(found.mz).all() and (np.diff(found.mz) > 0).all() and found.mz[0] > 0


@pytest.mark.parametrize("head", ["sep=;\n", '"sep=;"\n', '"# made, by hand"\n', '"# made";;\n'])
def test_what_spreadsheets_put_above_a_list(tmp_path, head):
    (tmp_path / "l.csv").write_text(f"{head}mz;name;\n885,55;PI;\n")
    found = read_peak_list(tmp_path / "l.csv")
    assert found.mz.tolist() == [885.55] and found.names == ("PI",)
