"""The process that compiles: `python -m lords_bench.static.worker`, one JSON request per line in, one answer out.

It alone imports Triton and the kernels here, with the interpreter switched off by whoever starts it (`compile.py`).
An answer is {"status", "reason", "assembly", "resources", "shared_bytes", "layouts"}; what a crash of the compiler
takes down is this process and one request. Answers leave on a private copy of standard output, because LLVM prints to
the real one.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lords_bench.errors import kind_and_ends
from lords_bench.static.request import CompileRequest, TritonDtype, request_from_json
from lords_bench.static.ttgir import parse_ttgir


def compile_request(request: CompileRequest) -> dict[str, Any]:
    """Compile for the target and disassemble; raises whatever the compiler raises."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module, _, name = request.function.partition(":")
    kernel = getattr(importlib.import_module(module), name)
    constants = {n: tl.dtype(v.name) if isinstance(v, TritonDtype) else v for n, v in request.constants}
    types = dict(request.types)
    names = [parameter.name for parameter in kernel.params]
    signature = {n: "constexpr" if n in constants else types[n] for n in names}
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, n in enumerate(names)
        if n not in constants and (types[n].startswith("*") or n in request.divisible_by_16)
    }
    target = request.target
    arch: int | str = int(target.arch) if target.backend == "cuda" else target.arch
    compiled = triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned),
        target=GPUTarget(target.backend, arch, target.warp_size),
        options={"num_warps": request.num_warps, "num_stages": request.num_stages},
    )
    if target.backend == "hip":
        assembly, resources = compiled.asm["amdgcn"], ""
    else:
        tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
        assembly, resources = disassemble(compiled.asm["cubin"], tools / "cuobjdump")
    return {
        "status": "ok",
        "reason": None,
        "assembly": assembly,
        "resources": resources,
        "shared_bytes": compiled.metadata.shared,
        "layouts": asdict(parse_ttgir(compiled.asm["ttgir"])),
    }


def disassemble(cubin: bytes, cuobjdump: Path) -> tuple[str, str]:
    """Machine code and resource usage of a cubin, as text, by the disassembler in Triton's wheel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        commands = [[str(cuobjdump), option, str(path)] for option in ("-sass", "-res-usage")]
        sass, usage = (subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands)
        return sass, usage


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        try:
            answer = compile_request(request_from_json(line))
        # A compiler can fail with any exception, and each is the result of its request.
        except Exception as error:  # noqa: BLE001
            answer = {"status": "compile_error", "reason": kind_and_ends(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
