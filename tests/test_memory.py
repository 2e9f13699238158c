"""What is freed goes back to the system, or is kept, as asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import PROJECT

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

RSS = """
from unisal import memory
def rss():
    status = open("/proc/self/status").read()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
"""


def megabytes(code):
    command = [sys.executable, "-c", RSS + code]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


def test_freed_memory_goes_back():
    pieces = """
kept, freed = [], []
for i in range(20_000):
    freed.append(bytearray(4000))
    kept.append(bytearray(10))
kept.append(bytearray(4000))
before = rss()
del freed
memory.give_back_freed_memory()
print(before, rss())
"""
    before, after = megabytes(pieces)
    assert after < before - 50


def test_freed_memory_is_kept():
    large = """
before = rss()
if {}:
    memory.keep_freed_memory()
x = bytearray(100_000_000)
x[::4096] = bytes(len(range(0, len(x), 4096)))
del x
print(before, rss())
"""
    before, after = megabytes(large.format(True))
    assert after > before + 80
    before, after = megabytes(large.format(False))
    assert after < before + 20


def test_elsewhere_nothing_is_done(monkeypatch):
    from unisal import memory

    monkeypatch.setattr(sys, "platform", "win32")
    memory.give_back_freed_memory()
    memory.keep_freed_memory()
