"""Functions as commands: their list and help, option parsing and error reporting."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import itertools
import logging
import os
import re
import signal
import sys
import threading
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from types import FrameType, NoneType, UnionType
from typing import Any, Union

from unisal.config import accept
from unisal.errors import (
    EXIT_INTERRUPTED,
    EXIT_MISTAKE,
    EXIT_SOME_FAILED,
    SomeFailed,
    UserError,
)
from unisal.files import from_home, is_place_error, named_place, said_reason

Command = Callable[..., None]
Inputs = str | Sequence[str]
"""The type of a parameter that takes any number of words: files, folders, patterns."""
ENDING_SIGNALS = ("SIGTERM", "SIGHUP")
"""What ends a command in an orderly way besides Ctrl-C, where a system has it."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end. Whatever finishes its work on Ctrl-C does so here too."""


def main(commands: Mapping[str, Command], arguments: Sequence[str], program: str) -> int:
    """Run one command line.

    Args:
        commands: the commands by their names.
        arguments: what was typed after the program's name.
        program: how the program is called, for instance "python run.py". Messages begin with its
            last word.

    Returns:
        The exit code. 0: done; 1: some inputs failed and were named, the others are done; 2: a
        mistake by the user, or a place that cannot be written, reported in one line; 130:
        interrupted by Ctrl-C; 143 or 129: ended by SIGTERM or SIGHUP. Errors of the program itself
        keep their traceback.
    """
    name = program.split()[-1]
    _print_whatever_comes()
    logging.basicConfig(format=f"{name}: %(levelname)s: %(message)s", level=logging.WARNING)
    # What Pillow has to say about odd metadata is of no use to anybody, once for every picture.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(commands, program))
        return 0
    code = 0
    with _Ending() as ending, contextlib.suppress(Terminated):
        code = _run(commands, list(arguments), program, name)
    if ending.signal is not None:
        if code == EXIT_SOME_FAILED:  # and why has been told
            return 128 + ending.signal
        return _report(name, f"ended by {ending.signal.name}", 128 + ending.signal)
    return code


def _run(commands: Mapping[str, Command], arguments: list[str], program: str, name: str) -> int:
    """Run a command, report how it ended and return the exit code."""
    try:
        call = _parse(commands, arguments, program)
        if call is not None:
            call.run()
        if sys.stdout is not None:
            sys.stdout.flush()  # while what goes wrong can still be reported
    except Terminated:
        raise
    except UserError as error:
        return _report(name, error, EXIT_MISTAKE)
    except SomeFailed as error:
        return _report(name, error, EXIT_SOME_FAILED)
    except KeyboardInterrupt:
        return _report(name, "interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:  # what reads the output has ended, for instance `head`
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_SOME_FAILED
    except ModuleNotFoundError as error:  # where only what predictions need is installed
        package = (error.name or "unisal").partition(".")[0]
        if package == "unisal":
            raise
        said = f"this needs the package {package}, which is not installed here"
        return _report(name, f"{said}; `pip install unisal` installs it", EXIT_MISTAKE)
    except OSError as error:
        if not is_place_error(error):
            raise
        place = named_place(error)
        where = f"{place}: " if place else ""
        return _report(name, f"{where}{said_reason(error)}", EXIT_MISTAKE)
    return 0


class _Ending:
    """Inside this context a signal that would end the process raises `Terminated` once.

    So nothing half-written is left. A signal that is ignored, or that the caller handles, stays so
    (`nohup`); outside the main thread this has no effect.

    Attributes:
        signal: the one that came.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._changed: list[int] = []

    def __enter__(self) -> _Ending:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, n) for n in ENDING_SIGNALS if hasattr(signal, n)):
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, self._end)
                    self._changed.append(number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._changed:
            signal.signal(number, signal.SIG_DFL)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:  # a second one must not stop the tidying up
            self.signal = signal.Signals(number)
            raise Terminated


def _print_whatever_comes() -> None:
    """Let names that the terminal's encoding lacks be printed, with escapes."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def as_inputs(value: Inputs, option: str) -> tuple[str, ...]:
    """Read the words that name what a command works on.

    Args:
        value: a path as it was typed, or several.
        option: its name, for the message.

    Returns:
        Each of them once, in their order, with `~` at the start as the home folder.

    Raises:
        UserError: there is none.
    """
    words = [value] if isinstance(value, str | os.PathLike) else list(value)
    if not words:
        raise UserError(f"{option} names nothing")
    return tuple(dict.fromkeys(from_home(os.fspath(word)) for word in words))


def as_path(value: str | os.PathLike[str] | None) -> Path | None:
    """Read an option that names a file or folder, with `~` at the start as the home folder."""
    return None if value is None else Path(from_home(os.fspath(value)))


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


def with_options_of(
    options: type,
    other_names: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
    without: Iterable[str] = (),
    described: bool = True,
) -> Callable[[Command], Command]:
    """Give a command the options of a dataclass.

    The command has to take `**options`. Its signature then lists the fields of the class, with
    their types and defaults, so that they are read and listed like its own options, and the
    "Options:" of the class's docstring are added to its help. The command is called with the
    options that were typed; an unknown name is a `UserError`.

    Args:
        options: the dataclass.
        other_names: names of further options that it is made from, which are not fields. They are
            read as Python values.
        defaults: defaults that are not those of the class.
        without: fields that are no options of this command.
        described: whether the help describes the options as well, and not only lists them.

    Returns:
        The decorator.
    """

    def add(command: Command) -> Command:
        if described:
            text = inspect.cleandoc(options.__doc__ or "").split("Options:", 1)[-1]
            command.__doc__ = f"{inspect.getdoc(command)}\n\nOptions:{text}"
        signature = inspect.signature(command)
        own = list(signature.parameters.values())
        types = typing.get_type_hints(options)
        added = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=(defaults or {}).get(field.name, _default(field)),
                annotation=types[field.name],
            )
            for field in fields(options)
            if field.name not in (*signature.parameters, *without)
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


def stands_for(option: str, parameter: str) -> Callable[[Command], Command]:
    """Let an option of a command stand for a parameter that otherwise has to be given.

    Args:
        option: the option.
        parameter: the parameter, which then is None.

    Returns:
        The decorator.
    """

    def add(command: Command) -> Command:
        command.stands_for = {option: parameter}  # type: ignore[attr-defined]
        return command

    return add


def _signature(command: Command, arguments: Sequence[str]) -> inspect.Signature:
    """Return the signature of a command, as the options that were typed make it."""
    signature = inspect.signature(command)
    typed = {a[2:].partition("=")[0] for a in arguments if a.startswith("--")}
    replaced = {p for option, p in getattr(command, "stands_for", {}).items() if option in typed}
    parameters = signature.parameters.values()
    return signature.replace(
        parameters=[p.replace(default=None) if p.name in replaced else p for p in parameters]
    )


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
    command = commands[arguments[0]]
    if any(a in ("-h", "--help") for a in arguments[1:]):
        print(_help(command, f"{program} {arguments[0]}"))
        return None
    words = _safe_words(command, arguments)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            call = fire.Fire(_deferred(command, words), words, serialize=lambda _: None)
    except FireExit as stopped:
        faults = [e.ErrorAsStr() for e in stopped.trace.elements if e.HasError()]
        fault = faults[-1] if faults else said.getvalue().strip().splitlines()[0]
        raise UserError(f"{arguments[0]}: {_explained(fault, command, words)}") from None
    assert isinstance(call, _Call)
    return call


def _inputs_of(command: Command) -> str | None:
    """Return the name of the parameter that takes any number of words; None if there is none."""
    types = typing.get_type_hints(command)
    return next((name for name, kind in types.items() if kind == Inputs), None)


def _safe_words(command: Command, arguments: list[str]) -> list[str]:
    """Return what was typed after the command's name, so that files are not taken for options.

    A word that begins with a hyphen is a file where one of that name exists and no option has it,
    and behind `--`.
    """
    name, *words = arguments
    behind: list[str] = []
    if "--" in words:  # Fire would take what follows for its own options
        words, behind = words[: words.index("--")], words[words.index("--") + 1 :]
        if not _inputs_of(command) or not behind:
            raise UserError(f"{name}: {' '.join(['--', *behind])!r} is not understood")
    options = inspect.signature(command).parameters

    def is_file(word: str) -> bool:
        key = word.lstrip("-").partition("=")[0].replace("-", "_")
        return word.startswith("-") and key not in options and os.path.lexists(word)

    words = [f"./{word}" if is_file(word) else word for word in words]
    _refuse_bare(command, name, [*words, *behind[:1]])
    if "-" in words:  # Fire would take it for the end of the command
        raise UserError(f"{name}: '-' is not understood")
    return words + [f"./{word}" if word.startswith("-") else word for word in behind]


def _refuse_bare(command: Command, name: str, words: Sequence[str]) -> None:
    """Refuse an option that takes a text and is typed without: Fire would take it for "True"."""
    types, parameters = typing.get_type_hints(command), inspect.signature(command).parameters
    for word, following in itertools.pairwise([*words, "-"]):
        option = word[2:].replace("-", "_")
        if not word.startswith("--") or option not in parameters or not following.startswith("-"):
            continue
        kinds = typing.get_args(kind := types.get(option, parameters[option].annotation)) or (kind,)
        if set(kinds) - {NoneType} <= {str, Path}:
            raise UserError(f"{name}: {word} is typed without a value; expected {word}=VALUE")


def _explained(fault: str, command: Command, words: Sequence[str]) -> str:
    """Return a fault that Fire found; of a word that is no input: how options are typed."""
    left = re.fullmatch("Could not consume arg: (.*)", fault, re.DOTALL)
    if left is None or left[1].startswith("-"):
        return fault
    typed = {word.lstrip("-").partition("=")[0] for word in words if word.startswith("-")}
    options = [
        p.name
        for p in inspect.signature(command).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in typed
    ]
    hint = f"if {options[0]} is {left[1]}, type --{options[0]}={left[1]}" if options else ""
    return f"{left[1]!r} is not understood: options are typed with their names; {hint}"


def _deferred(command: Command, words: Sequence[str]) -> Callable[..., _Call]:
    """Return a function that parses like the command and returns the call."""
    from fire.decorators import SetParseFn, SetParseFns
    from fire.parser import DefaultParseValue

    signature, inputs = _signature(command, words), _inputs_of(command)
    parameters = list(signature.parameters.values())
    readers = _readers(command)

    def defer(*arguments: Any, **options: Any) -> _Call:
        if inputs is None:
            return _Call(command, arguments, options)
        named = options.pop(inputs, None)
        given = arguments if named is None else (named, *arguments)
        default = signature.parameters[inputs].default
        if not given and default is inspect.Parameter.empty:
            raise UserError(f"{inputs} is missing: the files or folders to work on")
        return _Call(command, (), {inputs: given or default, **options})

    if inputs is not None:  # any number of words, then options by their names
        more = inspect.Parameter("words", inspect.Parameter.VAR_POSITIONAL)
        optional = [p.replace(default=None) if p.name == inputs else p for p in parameters]
        parameters = [more, *(p.replace(kind=p.KEYWORD_ONLY) for p in optional)]
        readers = {p.name: readers.get(p.name, DefaultParseValue) for p in optional}
        readers[inputs] = str
    defer.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    defer.__wrapped__ = command  # type: ignore[attr-defined]  # Fire reads the options off it
    if inputs is not None:
        SetParseFn(str)(defer)
    return SetParseFns(**readers)(defer)


# ---- values -------------------------------------------------------------------------------
SWITCH_WORDS = {True: ("true", "yes", "1"), False: ("false", "no", "0")}
READERS: dict[type, Callable[[str, str], Any]] = {
    str: lambda _option, typed: typed,
    Path: lambda _option, typed: Path(from_home(typed)),
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
    parameters = inspect.signature(command).parameters.values()
    kinds = {p.kind for p in parameters}
    is_strict = (
        inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_KEYWORD not in kinds
    )
    options = [
        f"  --{p.name}" + ("" if p.default is p.empty else f"={p.default!r}")
        for p in parameters
        if p.kind is not p.VAR_KEYWORD
    ]
    words = [
        p.name.upper() if p.default is p.empty else f"[{p.name.upper()}]"
        for p in parameters
        if is_strict and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    if words and _inputs_of(command):
        words.append(f"[{words[0].strip('[]')} ...]")
    return "\n".join(
        [
            " ".join(["usage:", usage, *words, "[--option=value ...]"]),
            *options,
            "",
            inspect.getdoc(command) or "",
        ]
    )


def _first_line(command: Command) -> str:
    """Return the first line of a command's help."""
    return (inspect.getdoc(command) or "").splitlines()[0]


def _report(name: str, message: object, code: int) -> int:
    """Print a message in one line and return the exit code."""
    print(f"{name}: {' '.join(str(message).split())}", file=sys.stderr)
    return code
