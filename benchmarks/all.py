"""Print the table of docs/performance.md.

Run `python -m benchmarks.all`. It takes about half an hour on two slow cores; nothing else should
run at the same time.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import onnxruntime
import torch

from benchmarks import folders, network, scoring, startup, training
from benchmarks.case import Row, measure, print_rows
from benchmarks.limits import measure_machine

MODULES = (network, folders, scoring, training)
"""The modules whose cases are the rows of the table."""


def processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if "model name" in line), "")


def main(
    arguments: Sequence[str] | None = None,
    modules: Sequence[ModuleType] = MODULES,
    with_memory: bool = True,
) -> None:
    """Measure everything and print the table.

    Args:
        arguments: by default those of the command line.
        modules: the modules whose cases are measured.
        with_memory: whether to measure peak memory too, each side in a process of its own.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="PyTorch's")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    machine = measure_machine()
    print(
        f"{processor()}, {options.threads} threads, {torch.backends.cpu.get_cpu_capability()}; "
        f"PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}; "
        f"{machine.multiply_adds / 1e9:.1f} G multiply-adds and {machine.moved / 1e9:.1f} GB "
        "copied per second\n"
    )
    rows: list[Row] = []
    for case in [case for module in modules for case in module.cases()]:
        rows.append(measure(case, machine, memory=with_memory))
        case.close()
    print_rows(rows)
    print()
    startup.main()


if __name__ == "__main__":
    main()
