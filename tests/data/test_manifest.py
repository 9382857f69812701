"""Manifests: read with defaults filled in; every mistake is one message that names its place."""

import json

import pytest

from msi2he_jax.data.manifest import read_manifest
from msi2he_jax.errors import InputError

HEADER = "sample_id,group_id,imzml,histology"


@pytest.fixture
def folder(tmp_path):
    for name in ("a.imzML", "b.imzML", "a.png", "b.png", "a.csv"):
        (tmp_path / name).write_text("x")
    return tmp_path


def _write(folder, text, encoding="utf-8"):
    path = folder / "manifest.csv"
    path.write_text(text, encoding=encoding)
    return path


def _error(folder, text):
    with pytest.raises(InputError) as caught:
        read_manifest(_write(folder, text))
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{folder / 'manifest.csv'}: ")


def test_defaults(folder):
    (sample,) = read_manifest(_write(folder, "sample_id,imzml,histology\ns1,a.imzML,a.png\n"))
    assert sample.sample_id == sample.group_id == "s1"
    assert sample.imzml == folder / "a.imzML" and sample.histology == folder / "a.png"
    optional = ("msi_roi", "histology_roi", "histology_um_per_px", "msi_um_per_px")
    optional += ("msi_um_per_px_y", "landmarks", "split", "view")
    assert all(getattr(sample, name) is None for name in optional)
    assert sample.section == "" and sample.line == 2


def test_everything_given(folder):
    header = "view,split,landmarks,section,msi_um_per_px_y,msi_um_per_px,histology_um_per_px,"
    header += "histology_roi,histology,msi_roi,imzml,group_id,sample_id"
    row = 'umap,Test,a.csv,serial,100,50.5,2.5e-1,"10,20,30,40",a.png,"0,0,5,6",a.imzML,p,s1'
    (sample,) = read_manifest(_write(folder, f"{header}\n{row}\n"))
    assert (sample.view, sample.split, sample.section) == ("umap", "test", "serial")
    assert sample.histology_roi == (10, 20, 30, 40) and sample.msi_roi == (0, 0, 5, 6)
    assert (sample.histology_um_per_px, sample.msi_um_per_px) == (0.25, 50.5)
    assert sample.msi_um_per_px_y == 100 and sample.landmarks == folder / "a.csv"


def test_byte_order_mark_blank_lines_and_spaces(folder):
    text = f"{HEADER}\r\n\r\n s1 , p , a.imzML , a.png \r\n,,,\r\n"
    (sample,) = read_manifest(_write(folder, text, "utf-8-sig"))
    assert (sample.sample_id, sample.line) == ("s1", 3)


def test_semicolons_and_tabs(folder):
    message = _error(folder, f"{HEADER.replace(',', ';')}\ns1;p;a.imzML;a.png\n")
    hint = "save it with commas, and decimal points in numbers"
    assert message == f"header: cells are separated by semicolons ({hint})"
    assert "separated by tabs" in _error(folder, HEADER.replace(",", "\t"))


def test_unknown_column_names_the_nearest(folder):
    message = _error(folder, "sample_id,imzml,histologie\n")
    assert message == "header: unknown column 'histologie' (did you mean histology?)"


def test_columns_lacking_or_repeated(folder):
    assert _error(folder, "group_id,imzml\n") == (
        "header: lacks sample_id, histology (needs sample_id, imzml, histology)"
    )
    assert _error(folder, f"{HEADER},imzml\n") == "header: column imzml is there twice"


@pytest.mark.parametrize("text", [f"{HEADER}\n", f"{HEADER}\n\n,,,\n"])
def test_no_rows(folder, text):
    assert _error(folder, text) == "holds no samples (add one line per section)"


def test_empty_file(folder):
    assert _error(folder, "").startswith("header: is empty")


def test_repeated_sample(folder):
    rows = "s1,p,a.imzML,a.png\nS1,p,b.imzML,b.png\n"
    expected = "line 3, sample_id: 'S1' is on line 2 too (give every section its own)"
    assert _error(folder, f"{HEADER}\n{rows}") == expected


def test_all_missing_files_at_once(folder):
    rows = "s1,p,x.imzML,a.png,z.csv,\ns2,q,b.imzML,y.png,,r.geojson\n"
    message = _error(folder, f"{HEADER},landmarks,msi_roi\n{rows}")
    assert message == (
        "files: 4 not found: x.imzML (line 2), z.csv (line 2), y.png (line 3), r.geojson (line 3) "
        f"(names are relative to {folder})"
    )


@pytest.mark.parametrize(
    ("column", "cell", "expected"),
    [
        ("msi_um_per_px", '"0,5"', "'0,5' is not a positive number (write decimal points"),
        ("msi_um_per_px", "-5", "'-5' is not a positive number (a pixel size in um)"),
        ("histology_um_per_px", "nan", "'nan' is not a positive number"),
        ("histology_um_per_px", "inf", "'inf' is not a positive number"),
        ("split", "tests", "'tests' is not one of train, validation, test (did you mean test?)"),
        ("view", "svd", "'svd' is not one of pca, tsne, umap (or leave it empty)"),
        ("section", "seral", "(did you mean serial?)"),
        ("msi_roi", '"1,2,3"', "'1,2,3' is neither x,y,w,h in whole pixels nor a GeoJSON file"),
        ("msi_roi", '"1,2,3,0"', "'1,2,3,0' must have x, y at least 0 and w, h at least 1"),
    ],
)
def test_bad_cells(folder, column, cell, expected):
    message = _error(folder, f"{HEADER},{column}\ns1,p,a.imzML,a.png,{cell}\n")
    assert message.startswith(f"line 2, {column}: ") and expected in message


def test_unquoted_region(folder):
    message = _error(folder, f"{HEADER},msi_roi\ns1,p,a.imzML,a.png,0,0,5,6\n")
    assert message.startswith("line 2: has 8 cells, the header 5") and "in quotes" in message


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a\tb", "x" * 200])
def test_names_that_cannot_be_file_names(folder, name):
    assert "cannot be a file name" in _error(folder, f"{HEADER}\n{name},p,a.imzML,a.png\n")


def test_empty_required_cell(folder):
    assert _error(folder, f"{HEADER}\n,p,a.imzML,a.png\n") == "line 2, sample_id: is empty"


def test_not_utf8(folder):
    path = folder / "manifest.csv"
    path.write_bytes(f"{HEADER}\n".encode() + b"s\xe9,p,a.imzML,a.png\n")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_manifest(path)


def test_geojson_region_is_its_bounding_box(folder):
    ring = [[10.5, 20.0], [30.2, 20.0], [30.2, 41.0], [10.5, 20.0]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}
    feature["properties"] = {"color": [1, 2, 3]}
    collection = {"type": "FeatureCollection", "features": [feature]}
    (folder / "r.geojson").write_text(json.dumps(collection))
    text = f"{HEADER},histology_roi\ns1,p,a.imzML,a.png,r.geojson\n"
    (sample,) = read_manifest(_write(folder, text))
    assert sample.histology_roi == (10, 20, 21, 21)
    (folder / "r.geojson").write_text("{}")
    with pytest.raises(InputError, match="holds no polygon"):
        read_manifest(folder / "manifest.csv")


@pytest.mark.parametrize(
    "text",
    [
        "sep=,\n# study 7\nsample_id,group_id,imzml,histology,,\ns1,p,a.imzML,a.png,,\n",
        ",Sample ID,group_id,imzML,Histology\n0,s1,p,a.imzML,a.png\n",
        "sample_id,group_id,imzml,histology\ns1,p,.\\a.imzML,sub\\..\\a.png,,,\n",
    ],
)
def test_what_spreadsheets_leave_is_ignored(folder, text):
    (folder / "sub").mkdir()
    (sample,) = read_manifest(_write(folder, text))
    assert sample.sample_id == "s1" and sample.imzml.read_text() == "x"
    assert sample.histology.resolve() == (folder / "a.png").resolve()


def test_names_spelt_otherwise_are_found(folder):
    (folder / "Ré").mkdir()
    (folder / "Ré" / "c.png").write_text("x")
    message = _error(folder, f"{HEADER}\ns1,p,A.IMZML,re\u0301\\C.png\n")
    assert "A.IMZML (line 2: did you mean a.imzML?)" in message
    assert "did you mean Ré/c.png?" in message and "write / where names have a backslash" in message


def test_a_row_that_looks_like_a_comment_is_refused(folder):
    message = _error(folder, f"{HEADER}\n#s1,p,a.imzML,a.png\n")
    assert message.startswith("line 2, sample_id: '#s1' begins with # (remove a row")


def test_paths_above_the_folder_are_followed(folder):
    (folder / "tables").mkdir()
    path = folder / "tables" / "m.csv"
    path.write_text(f"{HEADER}\ns1,p,../a.imzML,{folder / 'a.png'}\n")
    (sample,) = read_manifest(path)
    assert sample.imzml.read_text() == sample.histology.read_text() == "x"


@pytest.mark.parametrize("names", [("s 1", "S_1"), ("7", "007"), ("é", "e\u0301")])
def test_one_sample_of_two_spellings(folder, names):
    one, two = names
    message = _error(folder, f"{HEADER}\n{one},p,a.imzML,a.png\n{two},p,b.imzML,b.png\n")
    assert message.startswith(f"line 3, sample_id: {two!r} is on line 2 too, as {one!r}")


@pytest.mark.parametrize("groups", [("p", ""), ("", "p")])
def test_patients_are_given_for_all_or_none(folder, groups):
    """A spreadsheet saves a merged cell as one that is filled and others that are empty."""
    one, two = groups
    message = _error(folder, f"{HEADER}\ns1,{one},a.imzML,a.png\ns2,{two},b.imzML,b.png\n")
    line = 2 + groups.index("")
    assert message.startswith(f"line {line}, group_id: is empty, and filled on 1 of 2 lines")


def test_channels_of_a_slide(folder):
    for cell, expected in (("", None), ('"3,2, 1"', (3, 2, 1)), ("2", (2,))):
        text = f"sample_id,imzml,histology,histology_channels\ns1,a.imzML,a.png,{cell}\n"
        assert read_manifest(_write(folder, text))[0].histology_channels == expected
    for cell in ("0", '"1,2"', "red", '"1,2,3,4"', "-1"):
        text = f"sample_id,imzml,histology,histology_channels\ns1,a.imzML,a.png,{cell}\n"
        with pytest.raises(
            InputError, match=r"line 2, histology_channels: .* one or three channels"
        ):
            read_manifest(_write(folder, text))
