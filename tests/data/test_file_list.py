"""Lists of files: what a line means, faults that are named, and memory that does not grow."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import PROJECT

from unisal.data import file_list
from unisal.data.file_list import (
    LONGEST_LINE,
    Entry,
    check_once,
    count_entries,
    entries_alike,
    in_parts,
    read_file_list,
    same_place,
)
from unisal.errors import UserError


def write(folder, content):
    path = folder / "films.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_name_files_relative_to_the_list(tmp_path):
    path = write(
        tmp_path,
        "\ufeffa.mp4\r\n\n# no film\n  \nb/ü c.mp4\n/c.mp4\ns3://b/#d.mp4\n./#e.mp4\n f .mp4 ",
    )
    assert list(read_file_list(path)) == [
        Entry(1, f"{tmp_path}/a.mp4"),
        Entry(5, f"{tmp_path}/b/ü c.mp4"),
        Entry(6, "/c.mp4"),
        Entry(7, "s3://b/#d.mp4"),
        Entry(8, f"{tmp_path}/./#e.mp4"),
        Entry(9, f"{tmp_path}/ f .mp4 "),
    ]
    assert count_entries(path) == 6


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a.mp4\n\xe4.mp4\n", r"films.txt:2 is not UTF-8"),
        (b"a.mp4\n\n\0.mp4\n", r"films.txt:3 holds a NUL"),
        (b"a.mp4\n" + b"b" * (LONGEST_LINE + 1), r"films.txt:2 has more than 65536 bytes"),
        (b"# nothing\n\n", r"films.txt names no file"),
    ],
)
def test_a_faulty_list_is_named_with_its_line(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        count_entries(write(tmp_path, content))


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no\.txt cannot be read: No such file"):
        count_entries(tmp_path / "no.txt")


def test_a_file_that_is_listed_twice(tmp_path):
    path = write(tmp_path, f"a.mp4\nb.mp4\n#\n./x/../a.mp4\n{tmp_path}/b.mp4\n")
    with pytest.raises(UserError, match=r"films.txt:4 names the same file as line 1: .*a\.mp4"):
        check_once(path)
    assert [[e.line for e in group] for group in entries_alike(path, same_place)] == [
        [1, 4],
        [2, 5],
    ]
    check_once(write(tmp_path, "a.mp4\nA.mp4\na.mp4 \nhttp://a.mp4\n"))


def test_equal_digests_are_not_taken_for_equal_files(tmp_path, monkeypatch):
    monkeypatch.setattr(file_list, "_digest", lambda text: len(text) % 2)
    path = write(tmp_path, "a.mp4\nb.mp4\ncc.mp4\nb.mp4\n")
    groups = list(entries_alike(path, same_place))
    assert [[e.line for e in group] for group in groups] == [[2, 4]]


def test_parts_are_drawn_as_they_are_needed():
    drawn = []
    parts = in_parts((drawn.append(i) or i for i in range(7)), 3)
    assert next(parts) == [0, 1, 2] and drawn == [0, 1, 2]
    assert list(parts) == [[3, 4, 5], [6]]


PEAK = """
import sys, tracemalloc
from pathlib import Path
from unisal.data.file_list import check_once, in_parts, read_file_list
import numpy, hashlib
tracemalloc.start()
path = Path(sys.argv[1])
check_once(path)
print(sum(len(part) for part in in_parts(read_file_list(path), 1000)))
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_is_a_few_bytes_a_line(tmp_path):
    n = 50_000
    path = tmp_path / "films.txt"
    with path.open("w") as file:
        file.writelines(f"folder_{i % 97}/a_film_with_a_long_name_{i}.mp4\n" for i in range(n))
    command = [sys.executable, "-c", PEAK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    counted, peak = map(int, done.stdout.split())
    assert counted == n
    # Digests, grown and sorted; and a part. The names alone would be above 100 bytes a line.
    assert peak < 40 * n + 1_000_000
