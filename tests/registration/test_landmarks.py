import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.registration.landmarks import Landmarks, read_landmarks, write_landmarks

HEADER = "name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um\n"


def test_written_landmarks_read_back(tmp_path):
    rng = np.random.default_rng(0)
    points = Landmarks(
        np.array(["a", "b", "c, d"]),
        np.array(["fit", "eval", "fit"]),
        rng.uniform(0, 9e3, (3, 2)),
        rng.uniform(0, 9e3, (3, 2)),
    )
    write_landmarks(tmp_path / "l.csv", points)
    back = read_landmarks(tmp_path / "l.csv")
    assert list(back.name) == ["a", "b", "c, d"]
    np.testing.assert_allclose(back.msi_yx_um, points.msi_yx_um, atol=1e-4)
    np.testing.assert_allclose(back.histology_yx_um, points.histology_yx_um, atol=1e-4)
    assert list(back.select("eval").name) == ["b"]


def test_columns_are_found_by_name_and_excel_marks_are_ignored(tmp_path):
    path = tmp_path / "l.csv"
    header = "\ufeffmsi_y_um,msi_x_um,note,use,name,histology_y_um,histology_x_um"
    path.write_text(header + "\r\n1,2,hi,,p,3,4\r\n\r\n", encoding="utf-8")
    points = read_landmarks(path)
    np.testing.assert_array_equal(points.msi_yx_um, [[1, 2]])
    np.testing.assert_array_equal(points.histology_yx_um, [[3, 4]])
    assert points.use[0] == "fit"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks name"),
        (HEADER, "holds no landmarks"),
        ("name,use,histology_x_um\np,fit,1\n", "lacks histology_y_um, msi_x_um, msi_y_um"),
        (HEADER.replace(",", ";") + "p;fit;1;2;3;4\n", "separated by semicolons"),
        (HEADER.replace(",", "\t"), "separated by tabs"),
        (HEADER + "p,fit,1,2,3,4\nq,fit,1,2,x,4\n", "line 3, msi_x_um: 'x' is not a finite number"),
        (HEADER + 'p,fit,"1,5",2,3,4\n', "decimal points"),
        (HEADER + "p,fit,1,2,nan,4\n", "line 2, msi_x_um"),
        (HEADER + "p,fit,1,2,-1e308,4\n", "line 2, msi_x_um: -1e308 is beyond 1e"),
        (HEADER + "p,fit,1,2,3\n", "line 2, msi_y_um: ''"),
        (HEADER + "p,fit,1,2,3,4,5\n", "line 2: has 7 cells"),
        (HEADER + "p,train,1,2,3,4\n", "neither 'fit' nor 'eval'"),
        (HEADER + "p,fit,1,2,3,4\np,fit,5,2,3,4\n", "is on line 2 too"),
    ],
)
def test_bad_files_are_refused_by_line(tmp_path, text, said):
    path = tmp_path / "l.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        read_landmarks(path)


def test_not_text_is_refused(tmp_path):
    path = tmp_path / "l.csv"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="UTF-8"):
        read_landmarks(path)
