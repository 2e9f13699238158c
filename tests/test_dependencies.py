"""pyproject.toml, the imports, docs/dependencies.md and environment.yml name the same packages."""

from __future__ import annotations

import ast
import re
import sys

import pytest
from support import PROJECT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it along there

PACKAGE_OF = {"cv2": "opencv-python-headless", "PIL": "pillow", "litert_torch": "litert-torch"}
"""Packages that are imported under another name than they are installed by."""


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def package_names(requirements):
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}


def imported_packages():
    """Return the packages from outside that the program imports."""
    modules = set()
    for path in [PROJECT / "run.py", *(PROJECT / "unisal").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
    outside = {m.partition(".")[0] for m in modules} - sys.stdlib_module_names - {"unisal"}
    return {PACKAGE_OF.get(name, name) for name in outside}


def test_what_is_imported_is_required_and_nothing_else(project):
    groups = project["optional-dependencies"]
    extras = package_names([*groups["openvino"], *groups["tflite"]])
    assert package_names(project["dependencies"]) | extras == imported_packages()
    assert not package_names(project["dependencies"]) & extras


def test_the_list_of_dependencies_is_complete(project):
    text = (PROJECT / "docs" / "dependencies.md").read_text()
    needed, for_tests = (
        re.findall(r"^\| `([\w-]+)` \| \S", part, re.MULTILINE)
        for part in text.split("For the tests")
    )
    assert set(needed) == package_names(project["dependencies"])
    assert set(for_tests) == package_names(project["optional-dependencies"]["test"])


def test_the_conda_environment_installs_the_project(project):
    text = (PROJECT / "environment.yml").read_text()
    assert f"- python{project['requires-python']}\n" in text
    assert "- -e .[test]\n" in text


def test_the_licence_is_whole(project):
    assert project["license"] == "Apache-2.0"
    text = (PROJECT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert [f"   {n}. " in text for n in range(1, 10)] == [True] * 9
    assert "END OF TERMS AND CONDITIONS" in text
    assert text.endswith("limitations under the License.\n")
