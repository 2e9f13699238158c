"""A process that has imported the program and forks a child for each call, within milliseconds.

Starting Python and importing PyTorch takes seconds, in which a kill meets nothing. The children
start where the command's own work does. At the fork the process has one thread, so they
are like processes that were started anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

TESTS = Path(__file__).resolve().parent.parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PRELOADED = (
    "av, fire, h5py, hypothesis, jinja2, PIL.Image, scipy.io, tensorboardX, torchvision, "
    "faults.fuzzing, "
    "unisal.commands.check_data, unisal.commands.folders, unisal.commands.generate, "
    "unisal.commands.scoring, unisal.commands.table, unisal.commands.training, "
    "unisal.commands.video_files"
)
CHANGES = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir")
"""Python's audit events for changes of files, besides opening one to write."""


class Result(NamedTuple):
    """How a child ended."""

    code: int
    """Its exit code; minus the signal if it was killed."""
    seconds: float
    peak_mb: float
    """The most memory that it had, of its own and shared with the parent."""
    stdout: str
    stderr: str
    changes: list[str]
    """The file or folder of each change that it was about to make anywhere but in the folder of
    temporary files, in order."""

    @property
    def touched(self) -> set[str]:
        """All files and folders that it changed."""
        return set(self.changes)

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Zygote:
    """Starts the process, and children of it."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def command(self, *arguments: str, **options: Any) -> Result:
        """Run a command line of the program; see `call`."""
        return self.call("unisal_command", *arguments, **options)

    def call(
        self,
        function: str,
        *arguments: Any,
        sandbox: Path,
        env: Mapping[str, str] | None = None,
        limit: float = 900,
        kill_after: float | None = None,
        kill_at_change: int | None = None,
        with_workers: bool = True,
        record: Path | None = None,
        memory_mb: int | None = None,
        file_kb: int | None = None,
    ) -> Result:
        """Call a function in a child and wait for its end.

        Args:
            function: "module:function", or "unisal_command" for a command line.
            arguments: what JSON can hold.
            sandbox: a folder; the working directory and the home are in it.
            env: adds to the environment.
            limit: after so many seconds the child is killed and the call fails.
            kill_after: send SIGKILL after so many seconds,
            kill_at_change: or before the change of that number, from 1,
            with_workers: to its own processes too, or to it alone.
            record: a folder that gets all that is moved to a name, as <number>/<whole path>.
            memory_mb: how much more memory than the parent the child may have.
            file_kb: how large files may become.
        """
        for name in ("work", "home"):
            (sandbox / "own" / name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as logs:
            request = {
                "function": function,
                "arguments": arguments,
                "sandbox": str(sandbox),
                "env": dict(env or {}),
                "limit": limit,
                "kill_after": kill_after,
                "kill_at_change": kill_at_change,
                "with_workers": with_workers,
                "record": str(record) if record else None,
                "memory_mb": memory_mb,
                "file_kb": file_kb,
                "logs": logs,
            }
            assert self._process.stdin is not None and self._process.stdout is not None
            print(json.dumps(request), file=self._process.stdin, flush=True)
            answer = json.loads(self._process.stdout.readline())
            read = lambda name: Path(logs, name).read_text(errors="replace")  # noqa: E731
            result = Result(
                answer["code"],
                answer["seconds"],
                answer["peak_mb"],
                read("stdout"),
                read("stderr"),
                [line for line in read("changes").splitlines() if not line.startswith(logs)],
            )
        if answer["over_limit"]:
            raise TimeoutError(f"{function} {arguments} took over {limit} s: {result}")
        return result


# ---- in the process ------------------------------------------------------------------------
def serve() -> None:
    """Answer requests from stdin until it is closed."""
    for name in PRELOADED.split(", "):
        __import__(name)
    __import__("PIL.Image").Image.init()
    for line in sys.stdin:
        if threading.active_count() != 1 or len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208
            raise RuntimeError("a process with threads must not fork")
        request = json.loads(line)
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            sys.exit(_child(request))
        with contextlib.suppress(OSError):  # whoever of the two comes first
            os.setpgid(pid, pid)
        print(json.dumps(_wait(pid, started, request)), flush=True)


def _wait(pid: int, started: float, request: dict[str, Any]) -> dict[str, Any]:
    """Wait for a child, kill it in time, and say how it ended."""
    ended = os.pidfd_open(pid)
    waits = request["kill_after"]
    over_limit = False
    if not select.select([ended], [], [], request["limit"] if waits is None else waits)[0]:
        over_limit = waits is None
        (os.killpg if request["with_workers"] else os.kill)(pid, signal.SIGKILL)
    os.close(ended)
    _, status, usage = os.wait4(pid, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
        "peak_mb": usage.ru_maxrss / 1024,
        "over_limit": over_limit,
    }


def _child(request: dict[str, Any]) -> int:
    """Become like a new process, do the call and return the exit code."""
    os.setpgid(0, 0)
    sandbox, logs = Path(request["sandbox"]), Path(request["logs"])
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        with (logs / name).open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    changes = os.open(logs / "changes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    own = sandbox / "own"
    os.chdir(own / "work")
    (logs / "tmp").mkdir()  # a short path, since sockets lie there
    places = {"HOME": own / "home", "TMPDIR": logs / "tmp", "XDG_CACHE_HOME": own / "home/.cache"}
    os.environ.update({name: str(path) for name, path in places.items()})
    os.environ.update(request["env"])
    tempfile.tempdir = None
    _set_limits(request)
    _watch(request, changes)
    if request["function"] == "unisal_command":
        from unisal.commands.cli import main
        from unisal.commands.table import COMMANDS

        return main(COMMANDS, request["arguments"], "python run.py")
    module, _, name = request["function"].partition(":")
    getattr(__import__(module, fromlist=[name]), name)(*request["arguments"])
    return 0


def _set_limits(request: dict[str, Any]) -> None:
    import resource

    if request["memory_mb"] is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + request["memory_mb"] * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if request["file_kb"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_kb"] * 1024, -1))


def _watch(request: dict[str, Any], changes: int) -> None:
    """Count changes of files, keep what is moved to a name, and kill this process in time."""
    ignored = (os.devnull, request["logs"])
    kill_at, main_process, inside = request["kill_at_change"], os.getpid(), threading.local()
    lock = threading.Lock()
    done = [0]

    def hook(event: str, arguments: Sequence[Any]) -> None:
        if event not in CHANGES and not (event == "open" and (arguments[2] or 0) & os.O_ACCMODE):
            return
        named = arguments[: 2 if event in ("os.rename", "os.link") else 1]
        paths = [os.fsdecode(a) for a in named if isinstance(a, str | bytes | os.PathLike)]
        if getattr(inside, "hook", False) or not paths or paths[-1].startswith(ignored):
            return
        inside.hook = True
        try:
            with lock:
                if os.getpid() == main_process:  # not one of its workers
                    done[0] += 1
                    os.write(changes, os.fsencode(repr(paths[-1])[1:-1] + "\n"))
                if done[0] == kill_at:
                    kill = os.killpg if request["with_workers"] else os.kill
                    kill(main_process, signal.SIGKILL)
                if request["record"] and event in ("os.rename", "os.link"):
                    number = f"{time.monotonic_ns()}-{os.getpid()}"
                    _keep(paths[0], Path(request["record"], number, paths[1][1:]))
        finally:
            inside.hook = False

    sys.addaudithook(hook)


def _keep(path: str, at: Path) -> None:
    """Keep a file, or the files of a folder, under another name."""
    at.parent.mkdir(parents=True)
    if Path(path).is_dir():
        shutil.copytree(path, at, copy_function=os.link)
    else:
        os.link(path, at)


if __name__ == "__main__":
    serve()
