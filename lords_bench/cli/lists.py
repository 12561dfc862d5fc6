"""Lists on the command line: `nf4,lords` and `4,3`."""

import argparse


def names(text: str) -> tuple[str, ...]:
    """The names between commas; empty ones are left out.

    Raises:
        ArgumentTypeError: there is none.
    """
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing; leave the option out for all")
    return found


def numbers(text: str) -> tuple[int, ...]:
    """The whole numbers between commas.

    Raises:
        ArgumentTypeError: something else stands there, or nothing.
    """
    try:
        return tuple(int(name) for name in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 4,3") from None
