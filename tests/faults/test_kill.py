"""Commands that are killed at random moments and started again, as often as they need."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import pytest
from faults.jobs import JOBS, Recording, Tree, record, tree
from faults.zygote import Zygote

SEED = 2026
MAX_KILLS_IN_A_ROW = 4

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's way to watch a process"),
]


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_command_ends_as_if_nothing_had_happened(name, zygote, tmp_path, amount):
    undisturbed = record(JOBS[name], zygote, tmp_path)
    rng = random.Random(f"{SEED} {name}")
    wanted, kills, sandboxes = amount(short=1, whole=34), 0, 0
    while kills < wanted:
        sandbox = undisturbed.copy(tmp_path / f"sandbox_{sandboxes}")
        kills += kill_until_done(undisturbed, zygote, sandbox, rng, wanted - kills)
        sandboxes += 1
        print(f"{name}: {kills} kills in {sandboxes} sandboxes", flush=True)
        shutil.rmtree(sandbox)
        assert sandboxes <= 4 * wanted + 4, "most runs ended before they were killed"


def kill_until_done(
    undisturbed: Recording, zygote: Zygote, sandbox: Path, rng: random.Random, most: int
) -> int:
    """Kill the command and start it again until it ends by itself; return the number of kills."""
    moments, before = [], tree(undisturbed.start)
    try:
        while len(moments) < min(most, MAX_KILLS_IN_A_ROW):
            moment = draw_moment(undisturbed, rng)
            moments.append(moment)
            result = undisturbed.job.run(zygote, sandbox, **moment)
            after = tree(sandbox)
            check_files(undisturbed, before, after)
            before = after
            if not result.killed:
                moments.pop()
                break
        else:
            result = undisturbed.job.run(zygote, sandbox)
        assert result.code == 0, result
        assert "Traceback" not in result.stderr
        end = tree(sandbox)
        check_files(undisturbed, before, end)
        assert end == undisturbed.end
    except BaseException as error:
        error.add_note(f"{undisturbed.job.name}, in {sandbox}, killed at {moments}")
        raise
    return len(moments)


def draw_moment(undisturbed: Recording, rng: random.Random) -> dict[str, float | int | bool]:
    """Draw when to kill: after a time, or just before a change of a file."""
    alone = {"with_workers": rng.random() < 0.5}
    if rng.random() < 0.5:
        return {"kill_after": rng.uniform(0, undisturbed.result.seconds), **alone}
    return {"kill_at_change": rng.randint(1, len(undisturbed.result.changes)), **alone}


def check_files(undisturbed: Recording, before: Tree, after: Tree) -> None:
    """Check that what bears a final name is whole, and that nothing has been lost."""
    versions = undisturbed.versions
    for name, found in after.items():
        if name in versions:
            assert found in versions[name], f"{name} is half-written"
        else:
            hidden = any(part.startswith(".") for part in Path(name).parts)
            assert hidden, f"{name} does not belong there"
    for name, found in before.items():
        if name not in versions:
            continue
        assert name in after, f"{name} was lost"
        if not name.endswith(undisturbed.job.goes_back or ("nothing",)):
            order = list(versions[name])
            assert order.index(found) <= order.index(after[name]), f"{name} fell back"
