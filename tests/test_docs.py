"""The pages in docs/ describe the package as it is: its modules, files, words and sections."""

from __future__ import annotations

import pkgutil
import re

import pytest
from support import PROJECT

PAGES = sorted(PROJECT.glob("docs/**/*.md"))
ARCHITECTURE = (PROJECT / "docs" / "architecture.md").read_text()
BEHAVIOUR = (PROJECT / "docs" / "behaviour.md").read_text()
PROGRAM = [PROJECT / "run.py", *PROJECT.glob("unisal/**/*.py")]
SOURCES = [*PROGRAM, *PROJECT.glob("tests/**/*.py"), *PROJECT.glob("benchmarks/**/*.py")]


def headings(text, level):
    return re.findall(rf"^{'#' * level} (.*)$", text, re.MULTILINE)


def test_the_behaviour_has_the_sections_that_docstrings_refer_to():
    known = headings(BEHAVIOUR, 2)
    assert known == ["Network", "Data", "Training", "Scoring and prediction", "Commands and files"]
    unknown = [
        (path.name, section)
        for path in SOURCES
        for reference in re.findall(
            r'behaviour\.md`?,((?:\s+(?:and )?"[^"]+",?)+)', path.read_text()
        )
        for section in re.findall(r'"([^"]+)"', re.sub(r"\s+", " ", reference))
        if section not in known + headings(BEHAVIOUR, 3)
    ]
    assert unknown == []


def test_nothing_refers_to_what_the_repository_does_not_hold():
    old = re.compile(r"\bspec 0\d|\bspecs? \d|shared/spec")
    assert [p.name for p in SOURCES if p.name != "test_docs.py" and old.search(p.read_text())] == []
    assert [p.name for p in PAGES if old.search(p.read_text())] == []


def test_every_module_stands_in_the_table_of_the_architecture():
    section = ARCHITECTURE.split("## Rooms")[1].split("\n## ")[0]
    listed, room = [], None
    for cell in re.findall(r"^\| (.*?) \|", section, re.MULTILINE):
        if name := re.fullmatch(r"\*\*(.*)/\*\*", cell):
            room = PROJECT / "unisal" / name[1].removeprefix("unisal")
        else:
            listed += [room / module for module in re.findall(r"`((?:\w+/)*\w+\.py)`", cell)]
    existing = {
        path
        for path in PROJECT.glob("unisal/**/*.py")
        if path.name not in ("__init__.py", "__main__.py") or path.parent.name == "unisal"
    }
    assert sorted(listed) == sorted(set(listed))
    assert sorted(existing - set(listed)) == []
    assert sorted(set(listed) - existing) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page):
    text = page.read_text()
    named = re.findall(r"`((?:unisal|tests|benchmarks|docs|examples)/[\w/.]+\.\w+)`", text)
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_the_files_in_the_drawings_exist():
    drawings = re.findall(r"^```mermaid\n(.*?)^```$", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        named = re.findall(r"\b([a-z]+/\w+\.py|threads\.py)", drawing)
        assert named
        assert [name for name in named if not (PROJECT / "unisal" / name).is_file()] == []


def test_the_vocabulary_is_written_down():
    section = ARCHITECTURE.split("## Vocabulary")[1].split("\n## ")[0]
    words = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    wanted = "source domain preset `frame_step` `input_size` `is_video` density log-density"
    assert {*wanted.split(), "saliency map", "fixation map"} <= set(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_of_the_package_that_a_page_gives_in_full_exist(page):
    for name in set(re.findall(r"`(unisal(?:\.\w+)+)`", page.read_text())):
        if not name.endswith(".py"):
            pkgutil.resolve_name(name)  # raises where there is nothing of that name
