"""The program `unisal`, or `python -m unisal`: all commands, from any folder."""

from __future__ import annotations

import sys

from unisal.commands import cli
from unisal.commands.table import COMMANDS


def main() -> int:
    """Run the command line of the installed program and return its exit code."""
    return cli.main(COMMANDS, sys.argv[1:], "unisal")


if __name__ == "__main__":
    sys.exit(cli.main(COMMANDS, sys.argv[1:], "python -m unisal"))
