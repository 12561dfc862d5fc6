"""What all commands have in common: they refuse in one line, and declare options on the settings that these fill."""

import argparse
import sys
from collections.abc import Callable, Mapping
from inspect import cleandoc
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from lords_bench.options import Settings, add_options, settings_of

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]  # noqa: SLF001  (argparse names its type nowhere else)


class Parser(argparse.ArgumentParser):
    """A parser of the project's, whose commands are of its class too.

    It refuses in one line, where argparse would print the usage first, and an option or name that one of the commands
    beside it has is told to be that one's. An empty value is refused too: it is a variable of a script that was never
    set, and would pass for the default or, as a path, for the working folder. An option for which it means something
    says so by `str` or `any_names`.

    Attributes:
        beside: the commands of the same group, by name; this one included.
        otherwise: the command that is meant where none is named; None where one must be.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})
        self.beside: Mapping[str, Parser] = MappingProxyType({})
        self.otherwise: str | None = None
        self.register("type", None, _given)
        self.register("type", Path, lambda text: Path(_given(text)))

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"lords-bench: {message}; see '{self.prog} --help'\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, for the command that is meant; nothing is left over."""
        args = sys.argv[1:] if args is None else args
        # Python 3.11 makes an empty list of such a value, whatever its type.
        for name, _, value in (word.partition("=") for word in args):
            if value == "--" and name.startswith("--"):
                self.error(f"argument {name}: '--' is no value")
        if self.otherwise is not None and (not args or (args[0][:1] == "-" and args[0] not in ("-h", "--help"))):
            args = [self.otherwise, *args]
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error("; ".join([f"unrecognized arguments: {' '.join(rest)}", *filter(None, map(self._owner, rest))]))
        return found, rest

    def serve(self, run: Callable[[Settings], int], settings: type[Settings], *, resumes: bool = False) -> None:
        """Make it a command that calls `run` with its settings.

        Args:
            run: returns the exit code.
            settings: the docstring is what the help says of the command, and the fields are its options; a field
                `command` gets the command line.
            resumes: whether the same command goes on where it was interrupted.
        """
        self.description = cleandoc(settings.__doc__ or "")
        add_options(self, settings)
        self.finish(lambda arguments: run(settings_of(settings, arguments)), resumes=resumes)

    def finish(self, run: Callable[[argparse.Namespace], int], *, resumes: bool = False) -> None:
        """Make it a command that calls `run` with its arguments."""
        self.add_argument("--debug", action="store_true", help="show the traceback of a refusal")
        self.set_defaults(run=run, resumes=resumes)

    def add_commands(self, metavar: str, *, otherwise: str | None = None) -> "Commands":
        """Make it a group of commands; `otherwise` is meant where none is named."""
        self.otherwise = otherwise
        commands = self.add_subparsers(required=True, metavar=metavar)
        # The words of a command are for that command to judge, also empty ones.
        commands.type = str
        return commands

    def _owner(self, word: str) -> str | None:
        """Whose word it is, where a command of the group has it."""
        flag = word.partition("=")[0]
        owners = [
            f"'{other.prog}'"
            for name, other in self.beside.items()
            if word == name or (flag[:2] == "--" and flag in other._option_string_actions)  # noqa: SLF001  (the same)
        ]
        return f"{flag} belongs to {' and '.join(owners)}" if owners else None


def _given(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is empty; give a value or leave it out")
    return text


def add_command(commands: "Commands", name: str, summary: str) -> Parser:
    """A command of a group; the summary is what the group's help says of it."""
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.beside = commands.choices
    return parser
