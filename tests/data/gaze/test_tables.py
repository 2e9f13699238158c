"""Tables as files: separators, encodings, compression, decimal commas, Parquet."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from unisal.data.gaze.table import joint_codes, read_table, to_numbers, to_text
from unisal.errors import UserError

ROWS = [["a b.jpg", "1", "10.5", "20"], ["ü.jpg", "2", "", "."]]


def write(path, sep, decimal=".", encoding="utf-8", quote="", before="", end="\n"):
    header = ["picture name", "who", "x", "y"]
    lines = [[quote + c + quote for c in row] for row in [header, *ROWS]]
    text = before + end.join(sep.join(row) for row in lines) + end
    path.write_bytes(text.replace("10.5", f"10{decimal}5").encode(encoding))
    return path


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_text_is_read_whatever_its_form(tmp_path, sep, encoding, end):
    decimal = "," if sep in (";", "\t") else "."
    path = write(tmp_path / "t.csv", sep, decimal, encoding, end=end)
    table = read_table(path)
    assert list(table.columns) == ["picture name", "who", "x", "y"]
    assert to_text(table.columns["picture name"]).tolist() == ["a b.jpg", "ü.jpg"]
    np.testing.assert_array_equal(to_numbers(table.columns["x"], "x", path), [10.5, np.nan])
    np.testing.assert_array_equal(to_numbers(table.columns["y"], "y", path), [20, np.nan])
    assert table.n_broken == 0


def test_quotes_comments_and_compression(tmp_path):
    plain = write(tmp_path / "t.txt", ",", quote='"', before="# made by a program\n\n")
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        assert read_table(path).columns["who"].tolist() == ["1", "2"]


def test_columns_of_spaces(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("image    x      y\na.jpg    1.5    2\nb.jpg   10      20\n")
    table = read_table(path)
    assert list(table.columns) == ["image", "x", "y"]
    assert table.columns["x"].tolist() == ["1.5", "10"]


def test_lines_with_other_numbers_of_cells_are_counted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("stimulus,x,y\na,1,2\nb,1\n\nc,1,2,3\nd,3,4\n")
    table = read_table(path)
    assert table.columns["stimulus"].tolist() == ["a", "d"]
    assert table.n_broken == 2


def test_a_separator_at_the_end_of_lines_is_no_column(tmp_path):
    for text in ("stimulus;x;y;\na;1;2;\n", "stimulus;x;y;\na;1;2\n"):
        path = tmp_path / "t.csv"
        path.write_text(text)
        table = read_table(path)
        assert list(table.columns) == ["stimulus", "x", "y"]
        assert table.columns["y"].tolist() == ["2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n# nothing\n", "is empty"),
        (b"x,x,y\n1,2,3\n", "two columns called 'x'"),
        (b"\x1f\x8bno gzip", "cannot be read"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, content, said):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_table(path)
    assert str(path) in str(error.value)


def test_a_value_that_is_no_number_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("stimulus,x,y\na,left,2\n")
    with pytest.raises(UserError, match="'left', which is not a number"):
        to_numbers(read_table(path).columns["x"], "x", path)


def test_whole_numbers_are_text_without_a_point():
    assert to_text(np.array([3.0, np.nan, 2.5])).tolist() == ["3", "", "2.5"]
    assert to_text(np.array([3, 4])).tolist() == ["3", "4"]


def test_joint_codes_are_equal_where_rows_are():
    a = np.array([1.0, 1.0, np.nan, np.nan, 2.0])
    b = np.array(["x", "y", "x", "x", "x"], dtype=object)
    codes = joint_codes([a, b])
    assert codes[2] == codes[3]
    assert len(set(codes.tolist())) == 4


def test_parquet_is_the_same_table(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "image": ["a.jpg", "b.jpg"],
        "x": [10.5, None],
        "t": [3, 4],
        "when": arrow.array([1500, 2500], arrow.timestamp("ms")),
        "location": [[1.0, 2.0], [3.0, 4.0]],
    }
    path = tmp_path / "t.parquet"
    parquet.write_table(arrow.table(columns), path)
    table = read_table(path)
    assert to_text(table.columns["image"]).tolist() == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(to_numbers(table.columns["x"], "x", path), [10.5, np.nan])
    assert to_numbers(table.columns["t"], "t", path).tolist() == [3, 4]
    assert np.diff(to_numbers(table.columns["when"], "when", path)).tolist() == [1000]
    assert list(table.columns["location"][1]) == [3, 4]
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        read_table(path)
