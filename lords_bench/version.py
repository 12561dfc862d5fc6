"""The version of the package, and where it lies: what its modules know of the package without importing its names."""

from pathlib import Path

__version__ = "0.1.0"

PACKAGE_FOLDER = Path(__file__).resolve().parent
