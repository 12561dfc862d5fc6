"""Lists on the command line: `nf4,lords` and `4,3`."""

import argparse


def names(text: str) -> tuple[str, ...]:
    """The names between commas; empty ones are left out."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def numbers(text: str) -> tuple[int, ...]:
    """The whole numbers between commas.

    Raises:
        ArgumentTypeError: something else stands there.
    """
    try:
        return tuple(int(name) for name in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 4,3") from None
