"""The files about the project can be read, and say the same as pyproject.toml."""

from __future__ import annotations

import os
import re
import shlex

import pytest
import yaml
from support import PROJECT
from test_dependencies import tomllib

from unisal.version import __version__


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def workflow():
    return yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())


def read(name):
    return (PROJECT / name).read_text()


def test_ci_tests_the_versions_of_python_that_are_promised(pyproject, workflow):
    project = pyproject["project"]
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python-version"]
    promised = [
        c.rpartition(" ")[2]
        for c in project["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: \d\.\d+", c)
    ]
    assert tested == promised == ["3.10", "3.11", "3.12", "3.13"]
    assert project["requires-python"] == f">={tested[0]}"


def test_ci_runs_the_script_that_developers_run(workflow):
    steps = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert os.access(PROJECT / ".ci" / "run", os.X_OK)


def test_the_script_runs_the_slow_tests_after_the_fast_ones(pyproject):
    options = shlex.split(pyproject["tool"]["pytest"]["ini_options"]["addopts"])
    assert options[options.index("-m") + 1] == "not slow"
    *_, last = read(".ci/run").rstrip().splitlines()
    assert last == 'as_typed ".venv/bin/python -m pytest -m slow"'


def test_the_checks_before_a_commit_are_those_of_the_tests():
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}  # the versions of pyproject.toml
    tested = re.findall(r'"(ruff check|ruff format|mypy)\b', read("tests/test_style.py"))
    assert sorted(" ".join(h["entry"].split()[:2]) for h in hooks) == sorted(
        {*tested, "ruff format"}
    )


def test_the_citation_is_that_of_the_paper(pyproject):
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == __version__
    assert citation["license"] == pyproject["project"]["license"]
    assert citation["authors"] == pyproject["project"]["authors"]
    paper = citation["preferred-citation"]
    assert paper["url"] == pyproject["project"]["urls"]["Paper"]
    readme = read("README.md")
    assert paper["title"] in readme and paper["url"] in readme
    assert str(paper["year"]) in readme
    for author in paper["authors"]:
        assert f"{{{author['family-names']}}}, {author['given-names']}" in readme


def test_the_newest_version_of_the_changelog_is_this_one():
    versions = re.findall(
        r"^## \[(.*)\] - (?:unreleased|\d{4}-\d\d-\d\d)$", read("CHANGELOG.md"), re.M
    )
    assert versions[0] == __version__


def test_contributors_are_told_the_commands_that_the_project_uses():
    text = read("CONTRIBUTING.md")
    assert len(text.splitlines()) < 80
    for command in ("pytest -m slow", ".ci/run", "ruff format .", "ruff check .", "mypy"):
        assert command in text
    for page in re.findall(r"\]\(([^)#]+)", text):
        assert (PROJECT / page).is_file(), page
