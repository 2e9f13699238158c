"""What the processor can compute in, as Linux lists it."""

from __future__ import annotations

from pathlib import Path

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags in `/proc/cpuinfo` of processors that compute in bfloat16 (x86 and Arm)."""
INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})
"""Flags of processors with products of 8-bit numbers that are summed in 32 bits (x86 and Arm)."""
CPU_INFO = Path("/proc/cpuinfo")


def lacks(flags: frozenset[str]) -> bool:
    """Return whether the processor is not known to have any of these flags."""
    return flags.isdisjoint(cpu_flags())


def cpu_flags() -> set[str]:
    """Return the processor's flags as Linux lists them; none on other systems."""
    try:
        return set(CPU_INFO.read_text().split())
    except OSError:
        return set()
