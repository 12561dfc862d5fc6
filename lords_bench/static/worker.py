"""The process that compiles: `python -m lords_bench.static.worker`, one JSON request per line in, one answer out.

It alone imports Triton and the kernels here, with the interpreter switched off by whoever starts it (`compile.py`). A
request is a call; its launches are recorded first, which takes about a millisecond each and gives Triton's own key of
the code they would run. What is stored under that key is read, what is not is compiled and disassembled.

    {"request": {…}, "folder": "…", "for_launch": false} -> {"status", "reason", "launches": [{…}, …], "damaged": […]}

"damaged" names the files that could not be believed; where the folder refuses, the answer is {"refused": "…"} alone.

What a crash of the compiler takes down is this process and one request.
"""

import importlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from lords_bench.errors import StoreError, UsageError, kind_and_ends
from lords_bench.isolate import answer_all
from lords_bench.locks import FileLock
from lords_bench.records.codec import to_plain
from lords_bench.source import TREE, sha256_of, statements
from lords_bench.static import ttgir
from lords_bench.static.pretended import Launch, Until, pretended_target
from lords_bench.static.request import CompileRequest, request_from_json
from lords_bench.static.stored import FORMAT, StoredCode, read_stored, write_stored
from lords_bench.static.ttgir import parse_ttgir

_LONGEST_COMPILE_S = 600.0


def compiled_launches(
    request: CompileRequest, folder: Path, *, for_launch: bool, on_damage: Callable[[Path], None]
) -> list[dict[str, Any]]:
    """What the call launches, with machine code; raises whatever the call or the compiler raises.

    Args:
        request: the call.
        folder: of stored machine code.
        for_launch: compile also what is stored where Triton's own cache, which a launch asks, does not have it.
        on_damage: told the path of a stored file that was removed because it could not be believed.

    Raises:
        StoreError: the folder refuses.
    """
    recorded = launches_of(request, until="nothing")
    stored = [read_stored(folder / stored_name(launch.hash), on_damage) for launch in recorded]
    if None in stored or (for_launch and not all(map(_in_triton_cache, recorded))):
        with _alone(folder / f"{recorded[0].hash}.lock"):
            stored = [_code_of(launch, folder) for launch in launches_of(request, until="binary")]
    return [{**_described(at), "code": to_plain(code)} for at, code in zip(recorded, stored, strict=True)]


def launches_of(request: CompileRequest, *, until: Until) -> list[Launch]:
    """The launches of the call, compiled that far."""
    module, _, name = request.function.partition(":")
    call = getattr(importlib.import_module(module), name)
    found: list[Launch] = []
    with pretended_target(request.target, found.append, until=until):
        call(target=request.target, **request.keywords)
    return found


def stored_name(key: str) -> str:
    """File name of stored machine code: Triton's key, and what reads the code here."""
    return f"{key}-{FORMAT}-{_readers_digest()}.json.gz"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait for whoever compiles the same: Triton would have both do it."""
    what = f"{path.stem[:16]} is being compiled"
    with FileLock(path, what=what, remedy="wait for that run", wait_s=_LONGEST_COMPILE_S):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@cache
def _readers_digest() -> str:
    return sha256_of(statements(TREE, ("lords_bench.static.worker", ttgir.__name__)))[:16]


def _in_triton_cache(launch: Launch) -> bool:
    from triton.runtime.cache import get_cache_manager

    return bool(get_cache_manager(launch.hash).get_group(f"{launch.name[:150]}.json"))


def _described(launch: Launch) -> dict[str, Any]:
    return {
        "kernel": f"{launch.module}:{launch.name}",
        "grid": launch.grid,
        "integers": [(name, value) for name, value in launch.args.items() if isinstance(value, int)],
        "types": list(launch.signature.items()),
        "constants": [(name, _plain(value)) for name, value in launch.constexprs.items()],
        "num_warps": launch.num_warps,
        "num_stages": int(launch.options.num_stages),
        "key": launch.hash,
    }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, str)) else str(value)


def _code_of(launch: Launch, folder: Path) -> StoredCode:
    path = folder / stored_name(launch.hash)
    code = read_stored(path, lambda _damaged: None)
    if code is None:
        code = _disassembled(launch)
        write_stored(path, code)
    return code


def _disassembled(launch: Launch) -> StoredCode:
    if launch.target.backend == "hip":
        assembly, resources = launch.asm["amdgcn"], ""
    else:
        import triton

        tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
        assembly, resources = disassemble(launch.asm["cubin"], tools / "cuobjdump")
    return StoredCode(
        assembly=assembly,
        resources=resources,
        shared_bytes=launch.metadata.shared,
        layouts=parse_ttgir(launch.asm["ttgir"]),
    )


def disassemble(cubin: bytes, cuobjdump: Path) -> tuple[str, str]:
    """Machine code and resource usage of a cubin, as text, by the disassembler in Triton's wheel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        commands = [[str(cuobjdump), option, str(path)] for option in ("-sass", "-res-usage")]
        sass, usage = (subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands)
        return sass, usage


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    damaged: list[Path] = []
    answer: dict[str, Any] = {"status": "ok", "reason": None, "launches": []}
    try:
        answer["launches"] = compiled_launches(
            request_from_json(question["request"]),
            Path(question["folder"]),
            for_launch=question["for_launch"],
            on_damage=damaged.append,
        )
    except StoreError as error:
        answer = {"refused": str(error)}
    except UsageError as error:
        answer |= {"status": "unsupported", "reason": str(error)}
    # A compiler can fail with any exception, and each is the result of its request.
    except Exception as error:  # noqa: BLE001
        answer |= {"status": "compile_error", "reason": kind_and_ends(error)}
    return {**answer, "damaged": [str(path) for path in damaged]}


def main() -> None:
    """Answer requests until standard input ends."""
    answer_all(_answer)


if __name__ == "__main__":
    main()
