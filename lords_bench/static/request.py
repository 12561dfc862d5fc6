"""`CompileRequest`: one specialisation of a kernel for one target, as plain data that crosses a process boundary.

The kernel is named by its import path, never held: the process that asks may have Triton's interpreter switched on,
in which compiling is impossible, or no Triton at all. The digest covers the source of the kernel's module and of every
module of this project that it imports, so that a stored result can be believed.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lords_bench.errors import UsageError
from lords_bench.static.target import Target

if TYPE_CHECKING:
    from lords_bench.kernels.common.signature import KernelSignature

PACKAGE = "lords_bench"


@dataclass(frozen=True, kw_only=True, slots=True)
class TritonDtype:
    """A `tl.dtype` among the constants, by name (`fp16`, `bf16`, `fp32`, …)."""

    name: str


Constant = int | float | bool | str | None | TritonDtype


@dataclass(frozen=True, kw_only=True, slots=True)
class CompileRequest:
    """Everything that the machine code of one kernel depends on.

    Attributes:
        function: `package.module:name` of a `@triton.jit` function.
        types: (argument, Triton type) of every argument that is no constant.
        constants: (argument, value) of every constexpr, and of integers that compile as the constant 1.
        divisible_by_16: integer arguments that compile as multiples of 16; pointers always do.
        weights_per_iteration: weights that one block decodes in one turn of its main loop, None without a loop.
    """

    function: str
    types: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Constant], ...]
    divisible_by_16: tuple[str, ...]
    num_warps: int
    num_stages: int
    weights_per_iteration: int | None
    target: Target

    def to_json(self) -> str:
        """Canonical JSON: one line, sorted keys; `from_json` is its inverse."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def module(self) -> str:
        """Import path of the kernel's module."""
        return self.function.partition(":")[0]


def request_from_signature(signature: "KernelSignature", target: Target) -> CompileRequest:
    """The request for a kernel's signature on a target.

    Raises:
        UsageError: a constant that is neither a number, a string, None nor a Triton dtype.
    """
    constants = {name: _constant(name, value) for name, value in signature.constexprs.items()}
    constants |= dict.fromkeys(sorted(signature.ones), 1)
    python_function = getattr(signature.kernel, "fn", signature.kernel)
    return CompileRequest(
        function=f"{python_function.__module__}:{python_function.__name__}",
        types=tuple((name, kind) for name, kind in signature.types.items() if name not in constants),
        constants=tuple(constants.items()),
        divisible_by_16=tuple(sorted(signature.divisible_by_16)),
        num_warps=signature.num_warps,
        num_stages=signature.num_stages,
        weights_per_iteration=signature.weights_per_iteration,
        target=target,
    )


def request_from_json(line: str) -> CompileRequest:
    """The request that `CompileRequest.to_json` wrote."""
    fields = json.loads(line)
    constants = [(n, TritonDtype(**v) if isinstance(v, dict) else v) for n, v in fields.pop("constants")]
    return CompileRequest(
        target=Target(**fields.pop("target")),
        types=tuple((name, kind) for name, kind in fields.pop("types")),
        constants=tuple(constants),
        divisible_by_16=tuple(fields.pop("divisible_by_16")),
        **fields,
    )


def source_digest(module: str) -> str:
    """Hex SHA-256 of `source_files(module)`.

    Raises:
        UsageError: `module` does not exist.
    """
    total = hashlib.sha256()
    for path in sorted(source_files(module)):
        total.update(path.read_bytes())
    return total.hexdigest()


def source_files(module: str) -> set[Path]:
    """Source files of `module` and of every module of this project that it imports, directly or not.

    Raises:
        UsageError: `module` does not exist.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            spec = find_spec(name)
        except ModuleNotFoundError:
            spec = None
        if spec is None or spec.origin is None:
            if name == module:
                raise UsageError(f"no module {module!r} to compile from; name it as package.module:function")
            continue
        found[name] = Path(spec.origin)
        waiting.extend(_imports(found[name]))
    return set(found.values())


def _imports(path: Path) -> Iterator[str]:
    """Modules of this project that a source file imports; `from a import b` names both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.startswith(f"{PACKAGE}."))


def _constant(name: str, value: Any) -> Constant:
    if value is None or isinstance(value, (int, float, str)):
        return value
    if type(value).__name__ == "dtype" and type(value).__module__.startswith("triton"):
        return TritonDtype(name=str(value))
    raise UsageError(f"constant {name}={value!r} cannot be sent to a compile worker; use a number, string or dtype")
