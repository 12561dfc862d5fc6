"""Lists of names on the command line: `nf4,lords`."""

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
