"""The testbed's text: the standard library of the running interpreter, divided by module.

Three disjoint sets of documents, one per source file:

    training   library and test files of every module that is not held out
    held-out   library files of `HELD_OUT_MODULES`; their tests (and C-accelerator twins) are in neither set
    shifted    the English prose of `pydoc_data.topics`: another domain, for fine-tuning

The division goes by module name, so it means the same on every Python version, while the text itself is whatever the
interpreter ships; records therefore carry `corpus_sha256`. Generated tables (encodings, lib2to3's data) are left out.
"""

import ast
import hashlib
import sysconfig
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lords_bench.errors import ModelError

HELD_OUT_MODULES = frozenset(
    {
        "argparse", "bdb", "calendar", "configparser", "contextlib", "csv", "dataclasses", "difflib", "doctest",
        "fractions", "ftplib", "gettext", "heapq", "imaplib", "ipaddress", "json", "mailbox", "optparse", "pathlib",
        "plistlib", "pprint", "pstats", "queue", "sched", "selectors", "shlex", "shutil", "smtplib", "statistics",
        "tarfile", "tempfile", "textwrap", "threading", "trace", "wave", "weakref", "zipfile",
    }
)  # fmt: skip

_LEFT_OUT_FOLDERS = frozenset({"site-packages", "encodings", "pydoc_data", "__pycache__", "lib2to3", "ensurepip"})
_LEFT_OUT_PREFIXES = ("_sysconfigdata", "bad", "config-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One source file: `name` is its path below the standard library, with forward slashes."""

    name: str
    text: str

    @property
    def is_test(self) -> bool:
        """Whether it is part of a test suite rather than of the library."""
        return self.name.startswith("test/") or "/test/" in self.name or "/tests/" in self.name or "_test/" in self.name


def module_of(name: str) -> str:
    """The module that a file belongs to, tests and private twins included.

    `test/test_json/x.py`, `json/decoder.py` and `_json.py` are all of `json`.
    """
    parts = [part.removesuffix(".py") for part in name.split("/")]
    if parts[0] == "test" and len(parts) > 1:
        parts = parts[1:]
    return parts[0].removeprefix("test_").removeprefix("_py").lstrip("_") or parts[0]


def _source_files(root: Path) -> Iterable[Path]:
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        parts = path.relative_to(root).parts
        if not _LEFT_OUT_FOLDERS.intersection(parts) and not parts[-1].startswith(_LEFT_OUT_PREFIXES):
            yield path


def _documents(root: Path) -> Iterable[Document]:
    for path in _source_files(root):
        try:
            with tokenize.open(path) as file:
                text = file.read()
        except (SyntaxError, UnicodeDecodeError):
            continue  # the test suite holds files that are not valid source on purpose
        if text.strip():
            yield Document(name=path.relative_to(root).as_posix(), text=text)


def standard_library() -> Path:
    """Folder of the running interpreter's standard library.

    Raises:
        ModelError: the interpreter ships no source (a zipped or frozen library).
    """
    root = Path(sysconfig.get_path("stdlib"))
    if not (root / "argparse.py").is_file():
        raise ModelError(f"no standard library source in {root}; use a Python that ships its .py files")
    return root


def training_documents(root: Path | None = None) -> tuple[Document, ...]:
    """Library and test files of all modules that are not held out."""
    documents = _documents(root or standard_library())
    return tuple(d for d in documents if module_of(d.name) not in HELD_OUT_MODULES)


def held_out_documents(root: Path | None = None) -> tuple[Document, ...]:
    """Library files (no tests) of the held-out modules."""
    documents = _documents(root or standard_library())
    return tuple(
        d for d in documents if not d.is_test and not d.name.startswith("_") and module_of(d.name) in HELD_OUT_MODULES
    )


def shifted_documents(root: Path | None = None) -> tuple[Document, ...]:
    """English prose of `pydoc_data.topics`, one document per topic, sorted by topic."""
    path = (root or standard_library()) / "pydoc_data" / "topics.py"
    if not path.is_file():
        raise ModelError(f"no {path}; the shifted domain needs pydoc_data/topics.py")
    with tokenize.open(path) as file:
        tree = ast.parse(file.read())
    topics = next(node.value for node in tree.body if isinstance(node, ast.Assign))
    return tuple(Document(name=f"topics/{key}", text=text) for key, text in sorted(ast.literal_eval(topics).items()))


def corpus_sha256(documents: Iterable[Document]) -> str:
    """Hash of names and texts in order; equal hashes mean the same evaluation text."""
    digest = hashlib.sha256()
    for document in documents:
        for part in (document.name, document.text):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
    return digest.hexdigest()
