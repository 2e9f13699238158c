"""Functions as commands: their list and help, option parsing and error reporting."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import logging
import sys
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union

from unisal.config import accept
from unisal.errors import (
    EXIT_INTERRUPTED,
    EXIT_MISTAKE,
    EXIT_SOME_FAILED,
    SomeFailed,
    UserError,
)

Command = Callable[..., None]


def main(commands: Mapping[str, Command], arguments: Sequence[str], program: str) -> int:
    """Run one command line.

    Args:
        commands: the commands by their names.
        arguments: what was typed after the program's name.
        program: how the program is called, for instance "python run.py". Messages begin with its
            last word.

    Returns:
        The exit code. 0: done; 1: some inputs failed and were named, the others are done; 2: a
        mistake by the user, reported in one line; 130: interrupted by Ctrl-C. Errors of the
        program itself keep their traceback.
    """
    name = program.split()[-1]
    logging.basicConfig(format=f"{name}: %(levelname)s: %(message)s", level=logging.WARNING)
    # What Pillow has to say about odd metadata is of no use to anybody, once for every picture.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(commands, program))
        return 0
    try:
        call = _parse(commands, list(arguments), program)
        if call is not None:
            call.run()
    except UserError as error:
        return _report(name, error, EXIT_MISTAKE)
    except SomeFailed as error:
        return _report(name, error, EXIT_SOME_FAILED)
    except KeyboardInterrupt:
        return _report(name, "interrupted", EXIT_INTERRUPTED)
    return 0


def as_names(value: Any, option: str) -> tuple[str, ...]:
    """Read an option that holds names.

    Args:
        value: `A,B`, `"('A', 'B')"`, `A` or nothing at all.
        option: its name, for the message.

    Returns:
        The names, none of them empty.

    Raises:
        UserError: the value is something else.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, tuple | list) or not all(isinstance(v, str) for v in value):
        raise UserError(f"{option} is {value!r}; expected names separated by commas")
    return tuple(v.strip() for v in value if v.strip())


def with_options_of(options: type, other_names: Iterable[str] = ()) -> Callable[[Command], Command]:
    """Give a command the options of a dataclass.

    The command has to take `**options`. Its signature then lists the fields of the class, with
    their types and defaults, so that they are read and listed like its own options, and the
    "Options:" of the class's docstring are added to its help. The command is called with the
    options that were typed; an unknown name is a `UserError`.

    Args:
        options: the dataclass.
        other_names: names of further options that it is made from, which are not fields. They are
            read as Python values.

    Returns:
        The decorator.
    """

    def add(command: Command) -> Command:
        described = inspect.cleandoc(options.__doc__ or "").split("Options:", 1)[-1]
        command.__doc__ = f"{inspect.getdoc(command)}\n\nOptions:{described}"
        signature = inspect.signature(command)
        own = list(signature.parameters.values())
        types = typing.get_type_hints(options)
        added = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_default(field),
                annotation=types[field.name],
            )
            for field in fields(options)
            if field.name not in signature.parameters
        ]
        added += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
            for name in other_names
        ]
        parameters = [*own[:-1], *added, own[-1]]

        @functools.wraps(command)
        def checked(*arguments: Any, **given: Any) -> None:
            accept(given, [p.name for p in parameters[:-1]], command.__name__)
            command(*arguments, **given)

        checked.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return checked

    return add


def _default(field: Field[Any]) -> Any:
    """Return the default of a dataclass's field as a signature has it."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default


def overview(commands: Mapping[str, Command], program: str) -> str:
    """Return the list of the commands, one line each."""
    width = max(len(name) for name in commands)
    lines = [f"  {name:<{width}}  {_first_line(command)}" for name, command in commands.items()]
    usage = f"usage: {program} COMMAND [--option=value ...]"
    more = f"{program} COMMAND --help  lists a command's options"
    return "\n".join([usage, "", *lines, "", more])


@dataclass
class _Call:
    """A command with its arguments, ready to run: Fire parses first, and only then work starts."""

    command: Command
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def __dir__(self) -> list[str]:
        return []  # words left over on the command line must not be taken for members

    def run(self) -> None:
        self.command(*self.arguments, **self.options)


def _parse(commands: Mapping[str, Command], arguments: list[str], program: str) -> _Call | None:
    """Parse a command line into a call; None if only help was asked for."""
    import fire
    from fire.core import FireExit

    if arguments[0] not in commands:
        raise UserError(f"no command {arguments[0]!r}; there are: {', '.join(commands)}")
    if "--" in arguments:  # Fire would take what follows for its own options
        rest = " ".join(arguments[arguments.index("--") :])
        raise UserError(f"{arguments[0]}: {rest!r} is not understood")
    if any(a in ("-h", "--help") for a in arguments[1:]):
        print(_help(commands[arguments[0]], f"{program} {arguments[0]}"))
        return None
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            call = fire.Fire(
                _deferred(commands[arguments[0]]), arguments[1:], serialize=lambda _: None
            )
    except FireExit as stopped:
        faults = [e.ErrorAsStr() for e in stopped.trace.elements if e.HasError()]
        fault = faults[-1] if faults else said.getvalue().strip().splitlines()[0]
        raise UserError(f"{arguments[0]}: {fault}") from None
    assert isinstance(call, _Call)
    return call


def _deferred(command: Command) -> Callable[..., _Call]:
    """Return a function that parses like the command and returns the call."""
    from fire.decorators import SetParseFns

    def defer(*arguments: Any, **options: Any) -> _Call:
        return _Call(command, arguments, options)

    defer.__signature__ = inspect.signature(command)  # type: ignore[attr-defined]
    defer.__wrapped__ = command  # type: ignore[attr-defined]  # Fire reads the options off it
    return SetParseFns(**_readers(command))(defer)


# ---- values -------------------------------------------------------------------------------
SWITCH_WORDS = {True: ("true", "yes", "1"), False: ("false", "no", "0")}
READERS: dict[type, Callable[[str, str], Any]] = {
    str: lambda _option, typed: typed,
    Path: lambda _option, typed: Path(typed),
    bool: lambda option, typed: _as_switch(option, typed),
}
"""How options of these types are read, from (name, text). Any other text is read as a Python value,
which would turn the folder `2024_05` into the number 202405."""


def _readers(command: Command) -> dict[str, Callable[[str], Any]]:
    """Return how a command's options are read, without those that are read as Python values."""
    types = typing.get_type_hints(command)
    readers: dict[str, Callable[[str], Any]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        reader = _reader(types.get(name, parameter.annotation))
        if reader is not None:
            readers[name] = functools.partial(reader, name)
    return readers


def _reader(annotation: Any) -> Callable[[str, str], Any] | None:
    """Return the reader for an annotation, which is a type or `type | None`."""
    if typing.get_origin(annotation) not in (Union, UnionType):
        return READERS.get(annotation)
    alternatives = [t for t in typing.get_args(annotation) if t is not NoneType]
    if len(alternatives) != 1 or alternatives[0] not in READERS:
        return None
    reader = READERS[alternatives[0]]
    return lambda option, typed: None if typed == "None" else reader(option, typed)


def _as_switch(option: str, typed: str) -> bool:
    """Read a switch from one of its words, in lower or upper case."""
    for value, words in SWITCH_WORDS.items():
        if typed.lower() in words:
            return value
    raise UserError(f"{option} is {typed!r}; it has to be True or False")


# ---- help and messages --------------------------------------------------------------------
def _help(command: Command, usage: str) -> str:
    """Return the help of a command."""
    options = [
        f"  --{p.name}" + ("" if p.default is p.empty else f"={p.default!r}")
        for p in inspect.signature(command).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]
    return "\n".join(
        [f"usage: {usage} [--option=value ...]", *options, "", inspect.getdoc(command) or ""]
    )


def _first_line(command: Command) -> str:
    """Return the first line of a command's help."""
    return (inspect.getdoc(command) or "").splitlines()[0]


def _report(name: str, message: object, code: int) -> int:
    """Print a message in one line and return the exit code."""
    print(f"{name}: {' '.join(str(message).split())}", file=sys.stderr)
    return code
