"""`lords-bench …`: the only part that knows kernels/ and suites/ by name.

Exit codes: 0 done, 2 refused with one line (`errors.LordsBenchError`, wrong arguments, a required package that is not
installed; a full disk or a path that cannot be used, whichever library meets it), 130 interrupted, 141 nobody reads the
output any more (`… | head -1`). Whatever else escapes is a defect and keeps its traceback. A command is imported when
it is called, and imports torch and what needs it when it runs, so that help and usage errors do not wait for them.
"""

import shlex
import sys
from collections.abc import Sequence

from lords_bench.cli.output import complain, finish_output, is_reader_gone, prepare_output
from lords_bench.cli.parser import build_parser
from lords_bench.errors import LordsBenchError, is_full, reason_of
from lords_bench.files import PATH_REFUSALS

REFUSED = 2
INTERRUPTED = 130
READER_GONE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; `argv` None is the command line."""
    prepare_output()
    try:
        return _run(argv)
    except BrokenPipeError:
        # A worker's pipe may break too, and that is a defect.
        if not is_reader_gone():
            raise
        return READER_GONE


def _run(argv: Sequence[str] | None) -> int:
    given = sys.argv[1:] if argv is None else argv
    # Known before the arguments are, which a package that is missing may prevent.
    debug, resumes = "--debug" in given, False
    try:
        arguments = build_parser(given).parse_args(given)
        # A record holds Unicode text; bytes of a file's name that are none come as halves of surrogate pairs.
        words = [argument.encode(errors="backslashreplace").decode() for argument in given]
        arguments.command = shlex.join(["lords-bench", *words])
        resumes = arguments.resumes
        code = int(arguments.run(arguments))
        finish_output()
    except SystemExit:
        # Help was asked for, or a usage error was told.
        finish_output()
        raise
    except LordsBenchError as error:
        if debug:
            raise
        complain(error)
        return REFUSED
    except OSError as error:
        refusal = _refusal(error)
        if debug or refusal is None:
            raise
        complain(refusal)
        return REFUSED
    except ModuleNotFoundError as error:
        from lords_bench.requirements import unmet_requirements

        missing = [unmet for unmet in unmet_requirements() if unmet.installed is None]
        if debug or not missing:
            raise
        wanted = " ".join(unmet.argument for unmet in missing)
        names = ", ".join(unmet.package for unmet in missing)
        complain(f"no module {error.name!r}; required and not installed: {names}; run: pip install {wanted}")
        return REFUSED
    except KeyboardInterrupt:
        if debug:
            raise
        complain("interrupted; the same command goes on where this one stopped" if resumes else "interrupted")
        return INTERRUPTED
    return code


def _refusal(error: OSError) -> str | None:
    """The one line for a full disk or a path that cannot be used, whichever library meets it; None for a defect."""
    if is_full(error):
        where = "the disk" if error.filename is None else f"the disk of {str(error.filename)!r:.200}"
        return f"{where} is full; free some space and start again"
    if error.filename is None or error.errno not in PATH_REFUSALS:
        return None
    return f"cannot use {str(error.filename)!r:.200}: {reason_of(error)}; give another path"
