import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.registration.point_table import read_points_table, write_points_table


def test_other_columns_are_kept(tmp_path):
    (tmp_path / "p.csv").write_text("\ufeffid,y_um,note,x_um\n1,2.5,a b,3\n\n2,4,,-5e1\n")
    table = read_points_table(tmp_path / "p.csv", "msi")
    np.testing.assert_array_equal(table.yx_um, [[2.5, 3], [4, -50]])
    write_points_table(tmp_path / "q.csv", table)
    text = "id,note,x_um,y_um\n1,a b,3.0000,2.5000\n2,,-50.0000,4.0000\n"
    assert (tmp_path / "q.csv").read_text() == text


def test_a_column_that_only_ends_like_a_coordinate_is_kept(tmp_path):
    (tmp_path / "p.csv").write_text("max_um,x_um,y_um,index_um\n7,1,2,8\n")
    table = read_points_table(tmp_path / "p.csv", "msi")
    assert (table.columns, table.rows) == (["max_um", "index_um"], [["7", "8"]])


@pytest.mark.parametrize(("side", "point"), [("msi", (4, 3)), ("histology", (2, 1))])
def test_landmarks_give_the_columns_of_their_side(tmp_path, side, point):
    text = "name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um\na,fit,1,2,3,4\n"
    (tmp_path / "l.csv").write_text(text)
    table = read_points_table(tmp_path / "l.csv", side)
    np.testing.assert_array_equal(table.yx_um, [point])
    assert (table.columns, table.rows) == (["name", "use"], [["a", "fit"]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks x_um and y_um"),
        ("x,y\n1,2\n", "found x, y"),
        ("x_um;y_um\n1;2\n", "save it with commas"),
        ("x_um,y_um\n", "holds none"),
        ("x_um,y_um\n1\n", "line 2, y_um: '' is not a finite number"),
        ("x_um,y_um\n1,b\n", "line 2, y_um: 'b' is not a finite number"),
        ("x_um,y_um\n1e308,1\n", "line 2, x_um: 1e308 is beyond 1e\\+12 um"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, said):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_points_table(tmp_path / "p.csv", "msi")
