"""What the processor can compute in, as Linux lists it."""

from __future__ import annotations

import platform
from pathlib import Path

from unisal.errors import UserError

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags in `/proc/cpuinfo` of processors that compute in bfloat16 (x86 and Arm)."""
INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})
"""Flags of processors with products of 8-bit numbers that are summed in 32 bits (x86 and Arm)."""
CPU_INFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """Return the processor's name as Linux lists it, elsewhere what Python knows of it."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"{platform.machine()} {platform.processor()}"


def processor_facts() -> list[str]:
    """Return the processors' names and flags, or what Python knows; the same at any time."""
    names = ("model name", "flags", "Features")
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    found = {line for line in lines if line.startswith(names)}
    return [platform.machine(), platform.processor(), *sorted(found)]


def no_bf16(device: str) -> UserError:
    """Return the error that a device has no instructions for bfloat16."""
    return UserError(
        f"precision is 'bf16', but {device} has no instructions for bfloat16 "
        f"({', '.join(sorted(BF16_FLAGS))}); leave it at 'fp32'"
    )


def lacks(flags: frozenset[str]) -> bool:
    """Return whether the processor is not known to have any of these flags."""
    return flags.isdisjoint(cpu_flags())


def cpu_flags() -> set[str]:
    """Return the processor's flags as Linux lists them; none on other systems."""
    try:
        return set(CPU_INFO.read_text().split())
    except OSError:
        return set()
