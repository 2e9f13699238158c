"""Every import keeps to the table "Who may import whom" of docs/architecture.md."""

from __future__ import annotations

import ast
import graphlib
import re

import pytest
from support import PROJECT

SOURCES = {
    ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [PROJECT / "run.py", *(PROJECT / "unisal").rglob("*.py")]
}
"""The files of the program by the names of their modules."""


def read_table():
    """-> what each room may import."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    section = text.split("## Who may import whom")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\S+)` \|(.*)\|$", section, re.MULTILINE)
    assert len({room for room, _ in rows}) == len(rows)
    return {room: re.findall(r"`(\S+?)`", allowed) for room, allowed in rows}


ROOMS = read_table()


def is_in(module, room):
    return module == room or module.startswith(f"{room}.")


def room_of(module):
    """-> the room of a module: the longest name that fits; `unisal` is its own file only."""
    rooms = [room for room in ROOMS if is_in(module, room)]
    rooms = [room for room in rooms if room != "unisal" or module == "unisal"]
    assert rooms, f"{module} stands in no row of the table"
    return max(rooms, key=len)


def imports_of(source, module=""):
    """-> the project's modules that a source imports, inside functions as well."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            # What is imported from a package may be a module of it.
            found |= {name if name in SOURCES else node.module for name in names}
    return {name for name in found if name.partition(".")[0] in ("unisal", "run")}


def faults(module, source):
    room = room_of(module)
    allowed = [room, *ROOMS[room]]
    return [
        f"{module} imports {name}; {room} may import {', '.join(ROOMS[room]) or 'nothing'}"
        for name in sorted(imports_of(source, module))
        if not any(is_in(name, a) and (a != "unisal" or name == "unisal") for a in allowed)
    ]


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_imports_keep_to_the_table(module):
    assert faults(module, SOURCES[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "source", "named"),
    [
        ("unisal.model.priors", "from unisal.data import DATASETS", "unisal.data"),
        ("unisal.model.priors", "import unisal.data.base", "unisal.data.base"),
        (
            "unisal.model.priors",
            "def f():\n    from unisal.train import epoch",
            "unisal.train.epoch",
        ),
        ("unisal.data.base", "from unisal.model import UNISAL", "unisal.model"),
        ("unisal.data.base", "from unisal import predict", "unisal.predict"),
        ("unisal.data.base", "import unisal", "unisal"),
        ("unisal.evaluate.metrics", "from unisal.errors import UserError", "unisal.errors"),
        ("unisal.train.config", "from unisal.model import UNISAL", "unisal.model"),
        ("unisal.train.trainer", "import run", "run"),
    ],
)
def test_an_import_that_is_not_allowed_is_found(module, source, named):
    (fault,) = faults(module, source)
    assert fault.startswith(f"{module} imports {named};")


def test_the_rooms_stand_in_an_order():
    # Without a circle there is an order in which each room needs only those before it.
    rooms = {room: set(allowed) - {room} for room, allowed in ROOMS.items()}
    order = list(graphlib.TopologicalSorter(rooms).static_order())
    assert set(order) == set(ROOMS)
    assert order[-1] in ("run", "unisal", "unisal.__main__")


def test_every_room_of_the_table_is_there():
    assert set(ROOMS) <= set(SOURCES)


def test_metrics_are_functions_on_arrays():
    tree = ast.parse(SOURCES["unisal.evaluate.metrics"].read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert imported <= {"__future__", "collections", "math", "numpy", "scipy", "typing"}


# ---- where PyTorch begins -------------------------------------------------------------------
PYTORCH = {"torch", "torchvision"}


def read_column(title):
    """-> the modules and rooms in the first column of the table with that title."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    table = text.split(f"| {title} |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\S+?)`", row)]


NEEDS_PYTORCH, DOORS = read_column("Needs PyTorch"), read_column("Door")
WITHOUT = (
    *("unisal.train.config", "unisal.train.finetune_config", "unisal.train.domain_config"),
    "unisal.evaluate.options",
)
"""Modules of a room that needs PyTorch, but which are needed for help and options alone."""


def needs_pytorch(module):
    """-> whether the document says so; a room is all its modules, but its own name is a file."""
    return module not in WITHOUT and any(is_in(module, name) for name in NEEDS_PYTORCH)


def statements(node, inside):
    """Yield the nodes that run when a module is imported or, `inside`, when functions are called;
    never those for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if is_function and not inside:
            continue
        yield child
        yield from statements(child, inside)


def ways_to_pytorch(source, inside):
    """-> what a source imports of PyTorch and of the modules that need it."""
    found = set()
    for node in statements(ast.parse(source), inside):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in SOURCES else node.module for name in names}
    return {name for name in found if name.partition(".")[0] in PYTORCH or needs_pytorch(name)}


LIGHT = [module for module in sorted(SOURCES) if not needs_pytorch(module)]


@pytest.mark.parametrize("module", LIGHT)
def test_importing_a_module_loads_no_pytorch(module):
    assert ways_to_pytorch(SOURCES[module].read_text(), inside=False) == set()


def test_the_doors_to_pytorch_are_those_that_are_described():
    # Commands are called by name, when they are typed, and may import what they run.
    library = [m for m in LIGHT if not any(is_in(m, program) for program in PROGRAMS)]
    found = {m for m in library if ways_to_pytorch(SOURCES[m].read_text(), inside=True)}
    assert found == set(DOORS)


def test_what_needs_pytorch_is_there():
    assert set(NEEDS_PYTORCH) <= set(SOURCES)
    assert all(any(is_in(m, name) for m in SOURCES) for name in NEEDS_PYTORCH)
    assert needs_pytorch("unisal.model.priors") and not needs_pytorch("unisal.predict.predictor")


@pytest.mark.parametrize(
    ("source", "at_import", "when_called"),
    [
        ("import torch", {"torch"}, {"torch"}),
        ("from torch.utils.data import Dataset", {"torch.utils.data"}, {"torch.utils.data"}),
        ("from unisal.model import UNISAL", {"unisal.model"}, {"unisal.model"}),
        ("def f():\n    import torch", set(), {"torch"}),
        ("class A:\n    import torch", {"torch"}, {"torch"}),
        ("if TYPE_CHECKING:\n    import torch", set(), set()),
        ("import numpy", set(), set()),
    ],
)
def test_a_way_to_pytorch_is_found(source, at_import, when_called):
    assert ways_to_pytorch(source, inside=False) == at_import
    assert ways_to_pytorch(source, inside=True) == when_called


# ---- library below, programs above ----------------------------------------------------------
PROGRAMS = ("unisal.commands", "unisal.__main__", "run")
CALLS_OF_PROGRAMS = {
    "print",
    "input",
    "exit",
    "sys.exit",
    "sys.stdout.write",
    "sys.stderr.write",
    "tqdm",
    "tqdm.write",
    "logging.basicConfig",
    "torch.set_num_threads",
    "torch.set_grad_enabled",
    "np.random.seed",
    "numpy.random.seed",
    "random.seed",
    "os.umask",
    "os.chdir",
    "os.putenv",
}
"""They print, show progress, end the process or change what belongs to the caller."""


def dotted(node):
    """Return `a.b.c` of an expression, or "" if it is something else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


IN_OTHER_PROCESSES = {
    "unisal.forks": {"torch.set_num_threads"},
    "unisal.cluster.workers": {"os.chdir"},
}
"""Pools of threads do not outlive a fork, so PyTorch would wait for ever in the child. Ray's
workers go where the process is that gives them tasks."""


def program_calls(source):
    """Return what only a program may do: the calls, and imports of tqdm."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and dotted(node.func) in CALLS_OF_PROGRAMS:
            found.add(dotted(node.func))
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.partition(".")[0] == "tqdm"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tqdm":
            found.add("tqdm")
        elif isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
            keys = [t.value for t in targets if isinstance(t, ast.Subscript)]
            found |= {"os.environ" for key in keys if dotted(key) == "os.environ"}
    return found


@pytest.mark.parametrize(
    "module", [m for m in sorted(SOURCES) if not any(is_in(m, program) for program in PROGRAMS)]
)
def test_the_library_leaves_printing_to_the_programs(module):
    assert program_calls(SOURCES[module].read_text()) == IN_OTHER_PROCESSES.get(module, set())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n    print(1)", {"print"}),
        ("import sys\nsys.exit(2)", {"sys.exit"}),
        ("from tqdm import tqdm", {"tqdm"}),
        ("import os\nos.environ['A'] = '1'", {"os.environ"}),
        ("import os\nos.umask(0)", {"os.umask"}),
        ("import os\nvalue = os.environ['A']", set()),
        ("painter.print_page()", set()),
    ],
)
def test_what_belongs_to_a_program_is_found(source, found):
    assert program_calls(source) == found
