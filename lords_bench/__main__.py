"""`python -m lords_bench` is `lords-bench`."""

import sys

from lords_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
