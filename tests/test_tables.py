"""Tables as spreadsheets leave them: what says nothing is ignored, what is amiss is named."""

import csv

import pytest

from msi2he_jax import tables
from msi2he_jax.errors import InputError
from msi2he_jax.tables import header_of, read_table

KNOWN = ("name", "x_um")
ROWS = [(2, {"name": "a", "x_um": "1"}), (3, {"name": "b", "x_um": "2"})]


def _read(folder, text):
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, "table", KNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "name,x_um\na,1\nb,2\n",
        "name,x_um\r\na,1\r\nb,2",
        "name,x_um\ra,1\rb,2\r",
        "\ufeff Name , X_um \n a , 1\nb\u00a0,2\u200b\n",
        '"name","x um"\n"a","1"\n"b","2"\n',
        "name,x-um,,,\na,1,,,\nb,2,,,\n",
        "name,x_um\na,1,,\nb,2,,,,,\n",
        ",name,x_um\n0,a,1\n1,b,2\n",
        "#,name,x_um\n1,a,1\n2,b,2\n",
        "Unnamed: 0,name,x_um\n0,a,1\n1,b,2\n",
        "name,unnamed:1,x_um\na,,1\nb,,2\n",
        ",name,x_um\n0,a,1\n1,b,2\n2,,\n",
    ],
)
def test_the_same_table_in_many_forms(tmp_path, text):
    assert _read(tmp_path, text).records() == ROWS


@pytest.mark.parametrize(
    "head", ["sep=,\n", '"sep=,"\n', "# of study 7, by hand\n\n", "#\n#,\n", "sep=,\n# two\n"]
)
def test_what_stands_above_the_header_is_skipped(tmp_path, head):
    table = _read(tmp_path, f"{head}name,x_um\na,1\n# more\n#,\n\n,,\nb,2\n")
    first = head.count("\n") + 2
    assert table.records() == [(first, ROWS[0][1]), (first + 5, ROWS[1][1])]
    assert header_of(tmp_path / "t.csv", KNOWN) == ["name", "x_um"]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_header_is_told_however_it_is_separated(tmp_path, mark):
    (tmp_path / "t.csv").write_text(f"# by hand\nName{mark}x um{mark}z\n1,2\n")
    assert header_of(tmp_path / "t.csv", KNOWN) == ["name", "x_um", "z"]


def test_cells_that_are_left_out_are_empty(tmp_path):
    assert _read(tmp_path, "name,x_um\na\n").records() == [(2, {"name": "a", "x_um": ""})]


def test_a_header_can_be_refused_before_the_rows(tmp_path):
    (tmp_path / "t.csv").write_text("Name,x um\n1,2,3\n")
    with pytest.raises(ZeroDivisionError):
        read_table(tmp_path / "t.csv", "table", KNOWN, lambda path, columns: 1 / 0)
    asked = []
    (tmp_path / "t.csv").write_text("Name,x um\n1,2\n")
    read_table(tmp_path / "t.csv", "table", KNOWN, lambda *given: asked.append(given))
    assert asked == [(tmp_path / "t.csv", ["name", "x_um"])]


def test_a_table_may_have_one_column(tmp_path):
    assert _read(tmp_path, "name\na\nb\n").records() == [(2, {"name": "a"}), (3, {"name": "b"})]
    assert _read(tmp_path, "x\tum\n1\n").records() == [(2, {"x_um": "1"})]  # A known name.


def test_points_may_have_names_that_begin_like_comments(tmp_path):
    assert _read(tmp_path, "name,x_um\n#1,5\n").records() == [(2, {"name": "#1", "x_um": "5"})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name;x_um\na;1\n", "header: cells are separated by semicolons (save it with commas"),
        ("sep=;\nname;x_um\na;1\n", "header: cells are separated by semicolons"),
        ("name\tx_um\n", "header: cells are separated by tabs"),
        ('"name,x_um"\n"a,1"\n', "header: the whole line is in quotes, as one cell"),
        ("name,,x_um\na,,1\nb,q,2\n", "header: column 2 has no name, and line 3 holds 'q' there"),
        ("name,Unnamed: 1\na,q\n", "header: column 2 has no name, and line 2 holds 'q' there"),
        (",name,x_um\n7,a,1\n", "header: column 1 has no name, and line 2 holds '7' there"),
        ("name,x_um\na,1,,5\n", "line 2: has 4 cells, the header 2 (put a cell that holds commas"),
        ("name,Name\n", "header: column name is there twice"),
        (b"\xff\xfen\0", "is UTF-16 text (save it as CSV UTF-8)"),
        (b"\xfe\xff\0n", "is UTF-16 text (save it as CSV UTF-8)"),
        (b"name,x_um\n\xe9,1\n", "is not UTF-8 text (save it as UTF-8)"),
    ],
)
def test_what_is_amiss_is_named(tmp_path, text, said):
    with pytest.raises(InputError) as caught:
        _read(tmp_path, text)
    assert said in str(caught.value)


FORMULAS = (
    "=HYPERLINK(0)",
    "+1+1",
    "-2*3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "-",
    "'=1",
    "''=1",
    "-inf",
    "\uff1d1",
    "\n=1",
)


def test_a_spreadsheet_runs_no_cell_that_is_written(tmp_path):
    path = tmp_path / "a.csv"
    tables.write_table(path, ["=name", "value"], [[text, -1.5] for text in FORMULAS])
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["'=name", "value"]
    assert all(name.startswith("'") and value == "-1.5" for name, value in rows)


@pytest.mark.parametrize("text", [text for text in FORMULAS if not {*text} & {*"\r\n"}])
def test_what_was_written_is_read_as_it_was(tmp_path, text):
    tables.write_table(tmp_path / "a.csv", ["name", "x"], [[text, 1]])
    assert tables.read_table(tmp_path / "a.csv", "", ["name"]).rows[0][1] == [text, "1"]


def test_numbers_stay_numbers(tmp_path):
    cells = [-3, -2.5, "-4.1250", "+1e-3", "", None, float("nan"), float("-inf"), True, "'tis"]
    tables.write_table(tmp_path / "a.csv", list("abcdefghij"), [cells])
    last = (tmp_path / "a.csv").read_text().splitlines()[-1]
    assert last == "-3,-2.5,-4.1250,+1e-3,,,,,True,'tis"


def test_a_table_is_written_as_a_whole_or_not_at_all(tmp_path):
    tables.write_table(tmp_path / "a.csv", ["x"], [[1]])
    with pytest.raises(ZeroDivisionError):
        tables.write_table(tmp_path / "a.csv", ["x"], ([1 / value] for value in (1, 0)))
    assert (tmp_path / "a.csv").read_text() == "x\n1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_records_have_a_column_for_each_name(tmp_path):
    tables.write_records(tmp_path / "a.csv", [{"a": 1}, {"b": "=2", "a": None}])
    assert (tmp_path / "a.csv").read_text() == "a,b\n1,\n,'=2\n"


def test_a_line_end_inside_a_cell_stays_inside(tmp_path):
    tables.write_table(tmp_path / "a.csv", ["name", "x"], [["a\rb\r\nc", 1]])
    assert tables.read_table(tmp_path / "a.csv", "", ["name"]).rows == [(4, ["a\nb\nc", "1"])]
