"""`lords-bench …`: the only part that knows kernels/ and suites/ by name.

Exit codes: 0 done, 2 refused with one line (`errors.LordsBenchError`, wrong arguments, a required package that is not
installed), 130 interrupted. Whatever else escapes is a defect and keeps its traceback. Commands import what they need
when they are called, so that help and usage errors do not wait for torch.
"""

import sys
from collections.abc import Sequence

from lords_bench.cli.output import complain
from lords_bench.cli.parser import build_parser
from lords_bench.errors import LordsBenchError
from lords_bench.requirements import unmet_requirements

REFUSED = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; `argv` None is the command line."""
    arguments = build_parser().parse_args(argv)
    arguments.command_line = sys.argv[1:] if argv is None else list(argv)
    try:
        return int(arguments.run(arguments))
    except LordsBenchError as error:
        if arguments.debug:
            raise
        complain(error)
        return REFUSED
    except ModuleNotFoundError as error:
        missing = [unmet for unmet in unmet_requirements() if unmet.installed is None]
        if arguments.debug or not missing:
            raise
        wanted = " ".join(unmet.argument for unmet in missing)
        names = ", ".join(unmet.package for unmet in missing)
        complain(f"no module {error.name!r}; required and not installed: {names}; run: pip install {wanted}")
        return REFUSED
    except KeyboardInterrupt:
        if arguments.debug:
            raise
        complain("interrupted; the same command goes on where this one stopped" if arguments.resumes else "interrupted")
        return INTERRUPTED
