"""Adds the weights that ship with the project, which lie outside the package, to its builds.

Everything else about the build is in pyproject.toml. A checkout that is installed with
`pip install -e .` reads the weights in place.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RUN = Path("training_runs/pretrained_unisal")
FILES = ("weights_best.pth", "UNISAL.json", "presets.json", "*Dataset.json", "README.md")
"""The run's files that predicting, scoring and fine-tuning need, and its model card."""


class BuildWithWeights(build_py):
    """Builds the package with a copy of the shipped run in `unisal/pretrained_unisal/`."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._copies():
                target.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(source), str(target))

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *(str(source) for source, _ in self._copies())]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        added = [] if self.editable_mode else [str(target) for _, target in self._copies()]
        return [*super().get_outputs(include_bytecode), *added]

    def _copies(self) -> list[tuple[Path, Path]]:
        folder = Path(self.build_lib, "unisal", RUN.name)
        sources = sorted(path for pattern in FILES for path in RUN.glob(pattern))
        return [(source, folder / source.name) for source in sources]


setup(cmdclass={"build_py": BuildWithWeights})
