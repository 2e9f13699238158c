"""How functions become commands: their list, their options, and what a mistake looks like."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from unisal.errors import (
    EXIT_INTERRUPTED,
    EXIT_MISTAKE,
    EXIT_SOME_FAILED,
    SomeFailed,
    UserError,
)

Command = Callable[..., None]


def main(commands: Mapping[str, Command], arguments: Sequence[str], program: str) -> int:
    """Run one command line -> the exit code.

    0: done; 1: some inputs failed and were named, the others are done; 2: a mistake in what was
    asked for, told in one line; 130: interrupted by Ctrl-C. Errors of the program itself
    keep their traceback.
    """
    logging.basicConfig(format=f"{program}: %(levelname)s: %(message)s", level=logging.WARNING)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(commands, program))
        return 0
    try:
        call = _parse(commands, list(arguments), program)
        if call is not None:
            call.run()
    except UserError as error:
        return _say(program, error, EXIT_MISTAKE)
    except SomeFailed as error:
        return _say(program, error, EXIT_SOME_FAILED)
    except KeyboardInterrupt:
        return _say(program, "interrupted", EXIT_INTERRUPTED)
    return 0


def as_names(value: Any, option: str) -> tuple[str, ...]:
    """An option's value -> names: `A,B`, `"('A', 'B')"`, `A` and nothing at all are understood.

    Raises:
        UserError: it is something else; says which option.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, tuple | list) or not all(isinstance(v, str) for v in value):
        raise UserError(f"{option} is {value!r}; expected names separated by commas")
    return tuple(v.strip() for v in value if v.strip())


def documented_by(options: type) -> Callable[[Command], Command]:
    """Add the description of a class of options to a command's help."""

    def add(command: Command) -> Command:
        described = inspect.cleandoc(options.__doc__ or "").split("Options:", 1)[-1]
        command.__doc__ = f"{inspect.getdoc(command)}\n\nOptions:{described}"
        return command

    return add


def overview(commands: Mapping[str, Command], program: str) -> str:
    """-> the list of the commands, one line each."""
    width = max(len(name) for name in commands)
    lines = [f"  {name:<{width}}  {_first_line(command)}" for name, command in commands.items()]
    usage = f"usage: python {program} COMMAND [--option=value ...]"
    more = f"python {program} COMMAND --help  tells a command's options"
    return "\n".join([usage, "", *lines, "", more])


@dataclass
class _Call:
    """A command with its arguments, ready to run: Fire parses first, and only then work starts."""

    command: Command
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def __dir__(self) -> list[str]:
        return []  # what is left over on the command line must not be taken for a member

    def run(self) -> None:
        self.command(*self.arguments, **self.options)


def _parse(commands: Mapping[str, Command], arguments: list[str], program: str) -> _Call | None:
    import fire
    from fire.core import FireExit

    if arguments[0] not in commands:
        raise UserError(f"no command {arguments[0]!r}; there are: {', '.join(commands)}")
    if "--" in arguments:  # what follows would be taken for options of Fire's own
        rest = " ".join(arguments[arguments.index("--") :])
        raise UserError(f"{arguments[0]}: {rest!r} is not understood")
    if any(a in ("-h", "--help") for a in arguments[1:]):
        print(_help(commands[arguments[0]], f"python {program} {arguments[0]}"))
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
    from fire.decorators import SetParseFns

    readers = {
        p.name: READERS[str(p.annotation)]
        for p in inspect.signature(command).parameters.values()
        if str(p.annotation) in READERS
    }

    def defer(*arguments: Any, **options: Any) -> _Call:
        return _Call(command, arguments, options)

    defer.__signature__ = inspect.signature(command)  # type: ignore[attr-defined]
    defer.__wrapped__ = command  # type: ignore[attr-defined]  # Fire reads the options off it
    return SetParseFns(**{name: partial(read, name) for name, read in readers.items()})(defer)


def _as_text(_option: str, typed: str) -> str | None:
    """Text stays as it was typed: Python would read the folder `2024_05` as the number 202405."""
    return None if typed == "None" else typed


def _as_switch(option: str, typed: str) -> bool:
    for value, words in SWITCH_WORDS.items():
        if typed.lower() in words:
            return value
    raise UserError(f"{option} is {typed!r}; it has to be True or False")


SWITCH_WORDS = {True: ("true", "yes", "1"), False: ("false", "no", "0")}
READERS: dict[str, Callable[[str, str], Any]] = {
    "str": _as_text,
    "str | None": _as_text,
    "bool": _as_switch,
}
"""How options are read by the types that a command's signature gives; others as Python values."""


def _help(command: Command, usage: str) -> str:
    options = [
        f"  --{p.name}" + ("" if p.default is p.empty else f"={p.default!r}")
        for p in inspect.signature(command).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]
    return "\n".join(
        [f"usage: {usage} [--option=value ...]", *options, "", inspect.getdoc(command) or ""]
    )


def _first_line(command: Command) -> str:
    return (inspect.getdoc(command) or "").splitlines()[0]


def _say(program: str, message: object, code: int) -> int:
    print(f"{program}: {' '.join(str(message).split())}", file=sys.stderr)
    return code
