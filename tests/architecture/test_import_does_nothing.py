"""Importing a module defines names and does nothing else: no file, environment, process or device is touched.

Read from the source: what stands outside functions (class bodies, decorators and default values included) is executed
by an import.
"""

import ast
from collections.abc import Iterator

import pytest

from architecture.import_map import PACKAGE, ROOT, module_files

# Calls of these names, or of anything below them, reach outside the process or change a library for everyone.
FORBIDDEN_CALLS = (
    "open", "print", "os.environ", "os.getenv", "os.putenv", "os.makedirs", "os.mkdir", "subprocess", "socket",
    "shutil", "tempfile", "pkgutil", "importlib.import_module", "importlib.metadata", "warnings.filterwarnings",
    "warnings.simplefilter", "logging.basicConfig", "random.seed", "numpy.random.seed", "np.random.seed",
    "matplotlib.use", "torch.cuda", "torch.manual_seed", "torch.set_num_threads", "torch.set_default_dtype",
    "torch.set_default_device", "pynvml", "triton.runtime",
)  # fmt: skip
FORBIDDEN_METHODS = frozenset(
    {"read_text", "read_bytes", "write_text", "write_bytes", "iterdir", "glob", "rglob", "exists", "is_file", "mkdir"}
)


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a chain of attributes; the chain's start is `…` where it is not a name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "…"


def executed_on_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that an import evaluates: all but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)):
                yield from (part, *executed_on_import(part))
        elif not isinstance(node, ast.Lambda):
            yield from (node, *executed_on_import(node))


def is_effect(node: ast.AST) -> bool:
    """Whether evaluating the node touches a file, the environment, a process, a device or a library's settings."""
    if isinstance(node, ast.Attribute):
        return dotted(node) == "os.environ"
    if not isinstance(node, ast.Call):
        return False
    name = dotted(node.func)
    return any(name == call or name.startswith(f"{call}.") for call in FORBIDDEN_CALLS) or (
        isinstance(node.func, ast.Attribute) and node.func.attr in FORBIDDEN_METHODS
    )


def effects(source: str) -> list[str]:
    """What an import of this source does besides defining names."""
    return [ast.unparse(node) for node in executed_on_import(ast.parse(source)) if is_effect(node)]


def test_importing_a_module_has_no_effect() -> None:
    found = {name: effects(path.read_text("utf-8")) for name, path in module_files(ROOT / PACKAGE).items()}

    assert {name: calls for name, calls in found.items() if calls} == {}


# The guard can fail.


@pytest.mark.parametrize(
    "source",
    [
        "DEBUG = os.environ.get('DEBUG')",
        "DEBUG = os.environ['DEBUG']",
        "DEVICE = torch.cuda.get_device_name(0)",
        "HAS_GPU = torch.cuda.is_available()",
        "TABLE = json.loads(Path('table.json').read_text())",
        "TABLE = json.load(open('table.json'))",
        "class A:\n    debug = os.getenv('DEBUG')",
        "def f(x=os.getenv('DEBUG')): ...",
        "if True:\n    subprocess.run(['nvidia-smi'])",
        "try:\n    pynvml.nvmlInit()\nexcept Exception: ...",
        "torch.set_num_threads(2)",
    ],
)
def test_an_effect_of_importing_is_found(source: str) -> None:
    assert effects(source) != []


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    return os.environ['DEBUG']",
        "f = lambda: torch.cuda.is_available()",
        "class A:\n    def f(self):\n        open('x')",
        "ROOT = Path(__file__).resolve().parent / 'model'",
        "BUILDERS = MappingProxyType({'a': lambda: open('x')})",
    ],
)
def test_what_runs_later_is_no_effect_of_importing(source: str) -> None:
    assert effects(source) == []
