#!/usr/bin/env python3
"""Runs the commands of UNISAL from a checkout. `python run.py` lists them."""

import sys

from unisal.commands.cli import main
from unisal.commands.table import COMMANDS

if __name__ == "__main__":
    sys.exit(main(COMMANDS, sys.argv[1:], "python run.py"))
