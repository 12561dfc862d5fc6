"""Record exhaustive tuning tables, on which searches are judged.

    python -m lords_bench.suites.studies.tuning_tables cpu|predicted

`cpu` times every configuration of `tuning.cpu_product` on this machine, all of them in every round: real times of a
real workload, of no kernel. `predicted` compiles every configuration of two kernels for two architectures and predicts
a time from the machine code: a landscape with real registers, spills and occupancy, and no measurement. Tables of a GPU
come from `lords-bench tune --exhaustive` on it.
"""

import argparse
import random
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

import lords_bench
from lords_bench.files import whole_file
from lords_bench.products.routes import preferred
from lords_bench.records.journal import Journal
from lords_bench.records.status import Status, created_now
from lords_bench.records.tuned import Machine, Problem, TunedKey
from lords_bench.records.tuning_table import TableRow, TuningTable
from lords_bench.static.bounds import GPU_MODELS, GpuModel
from lords_bench.static.target import named_target
from lords_bench.terminal import Console
from lords_bench.timing.probe import cpu_model, git_state
from lords_bench.tuning import cpu_product
from lords_bench.tuning.code import compile_configs
from lords_bench.tuning.kernel_spaces import kernel_space
from lords_bench.tuning.model import from_machine_code
from lords_bench.tuning.plan import source_of

ROOT = Path(lords_bench.__file__).resolve().parent.parent
CPU_PROBLEMS = ((1, 1024, 1024), (8, 512, 2048), (64, 768, 768))
ROUNDS = 25
PREDICTED_GPUS = ("H200", "RTX 4090")
PREDICTED_KERNELS = tuple((preferred("lords", tokens[0])[0], tokens) for tokens in ((1,), (8, 16)))
PREDICTED_LAYERS = ((4096, 4096), (14336, 4096), (4096, 14336))


def cpu_table(m: int, n: int, k: int, progress: Progress) -> TuningTable:
    """Every configuration of the blocked product, once per round in an order drawn anew.

    CPU time of the one thread that computes, not wall clock: what else the machine runs then costs cache and not time.
    """
    torch.set_num_threads(1)
    problem = Problem(
        m_bucket=m, n=n, k=k, bits=4, rank=16, x_dtype="float32", scale_dtype="float32", decoder="reference"
    )
    space = cpu_product.space()
    make = cpu_product.candidate_maker(problem)
    candidates = [make(config, str(index)) for index, config in enumerate(space.configs)]
    task = progress.add_task(f"M{m} {n}×{k}", total=ROUNDS)
    wrong = [candidate.check() for candidate in candidates]
    samples: list[list[int]] = [[] for _ in candidates]
    order, shuffle = list(range(len(candidates))), random.Random(0)
    for _ in range(ROUNDS):
        shuffle.shuffle(order)
        for index in order:
            begin = time.thread_time_ns()
            candidates[index].launch(0)
            samples[index].append(time.thread_time_ns() - begin)
        progress.advance(task)
    rows = [
        TableRow(
            values=tuple(value for _, value in config),
            status=Status.OK if reason is None else Status.INCORRECT,
            reason=reason,
            samples_ns=tuple(map(float, taken)) if reason is None else (),
        )
        for config, reason, taken in zip(space.configs, wrong, samples, strict=True)
    ]
    machine = Machine(
        gpu=cpu_model() or "cpu", capability=(0, 0), multiprocessors=1, driver=None, triton=version("triton")
    )
    return TuningTable(
        key=TunedKey(
            kernel=cpu_product.NAME, source_sha256=source_of(cpu_product.NAME), problem=problem, machine=machine
        ),
        evidence="measured",
        fields=tuple(name for name, _ in space.configs[0]),
        rows=tuple(rows),
        regime="hot",
        timer="thread-cpu-time",
        **provenance(),
    )


def predicted_table(kernel: str, m: int, n: int, k: int, gpu: GpuModel) -> TuningTable:
    """Every configuration of a kernel, compiled for a GPU that is not there."""
    problem = Problem(m_bucket=m, n=n, k=k, bits=4, rank=16, x_dtype="bfloat16", scale_dtype="float16", decoder="grid7")
    target = named_target(gpu.arch)
    machine = Machine(
        gpu=gpu.name,
        capability=(int(target.arch) // 10, int(target.arch) % 10),
        multiprocessors=gpu.sm_count,
        driver=None,
        triton=version("triton"),
    )
    space = kernel_space(kernel, problem, machine)
    compiled = compile_configs(kernel, space.configs, problem, target, workers=2)
    rows = [
        TableRow(
            values=tuple(value for _, value in config),
            status=found.status,
            reason=found.reason,
            samples_ns=()
            if found.status is not Status.OK
            else (round(from_machine_code(kernel, config, problem, gpu, found).predicted_ns, 1),),
        )
        for config, found in zip(space.configs, compiled, strict=True)
    ]
    return TuningTable(
        key=TunedKey(kernel=kernel, source_sha256=source_of(kernel), problem=problem, machine=machine),
        evidence="predicted",
        fields=tuple(name for name, _ in space.configs[0]),
        rows=tuple(rows),
        regime="predicted",
        timer="machine-code model",
        **provenance(),
    )


def provenance() -> dict[str, Any]:
    """Where a table came from; a commit that is not on the main branch may be rewritten, and is not named."""
    commit, dirty = git_state(ROOT)
    ancestor = ["git", "-C", str(ROOT), "merge-base", "--is-ancestor", "HEAD", "main"]
    if subprocess.run(ancestor, capture_output=True, check=False).returncode != 0:
        commit = None
    return {
        "command": " ".join(["python -m lords_bench.suites.studies.tuning_tables", *sys.argv[1:]]),
        "created_utc": created_now(),
        "commit": None if commit is None or dirty else commit,
    }


def main() -> None:
    """Record the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("cpu", "predicted"))
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "tuning")
    arguments = parser.parse_args()
    record = record_cpu if arguments.kind == "cpu" else record_predicted
    # The old table stands until the new one is whole.
    with (
        whole_file(arguments.out / f"{arguments.kind}.jsonl", parents=True) as part,
        Journal(part, TuningTable) as journal,
        Progress(console=Console(stderr=True)) as progress,
    ):
        record(journal, progress)


def record_cpu(journal: Journal[TuningTable], progress: Progress) -> None:
    """Tables of the blocked product on this machine."""
    for m, n, k in CPU_PROBLEMS:
        journal.append(cpu_table(m, n, k, progress))


def record_predicted(journal: Journal[TuningTable], progress: Progress) -> None:
    """Tables of kernels that are compiled for GPUs which need not be here."""
    cases = [
        (kernel, m, n, k, gpu)
        for gpu in GPU_MODELS
        if gpu.name in PREDICTED_GPUS
        for kernel, tokens in PREDICTED_KERNELS
        for m in tokens
        for n, k in PREDICTED_LAYERS
    ]
    for case in progress.track(cases):
        journal.append(predicted_table(*case))


if __name__ == "__main__":
    main()
