"""Lines for the user: results on standard output, refusals on standard error."""

import sys


def say(line: object) -> None:
    """One line of a result."""
    sys.stdout.write(f"{line}\n")


def complain(line: object) -> None:
    """Why a command was refused or stopped."""
    sys.stderr.write(f"lords-bench: {line}\n")
