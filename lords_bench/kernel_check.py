"""Every kernel against float64 on a device: what has to hold before any of them is timed.

Results are held to `reference.error_bounds`, the bound of the tests. Memory that a kernel allocates starts as NaN, so
that an element nobody wrote shows, and every launch is repeated: the two results must be equal bit for bit.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from lords_bench.kernel_registry import KERNELS, Kernel
from lords_bench.prepared import PreparedWeight, prepare
from lords_bench.records.status import Status
from lords_bench.reference.error_bounds import Magnitudes, error_bound
from lords_bench.reference.packing import pack_codes
from lords_bench.spec.codebook import named_codebook

# M, N, K: single tokens and tiles of them, with and without ragged edges.
SHAPES = (
    (1, 256, 1024),
    (1, 200, 700),
    (3, 130, 300),
    (16, 256, 1024),
    (40, 200, 700),
    (130, 130, 700),
    (600, 256, 512),
)
RANKS = (16, 5, 64)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CheckCase:
    """A random LoRDS weight with activations; its tensors are the fields of a stored weight."""

    name: str
    codes_NK: Tensor
    packed: Tensor
    b_NR: Tensor
    a_RK: Tensor
    levels_L: Tensor
    bits: int
    x_MK: Tensor
    bias_N: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """How one kernel did on one case.

    Attributes:
        worst: largest error in units of its bound, at most 1 if the status is ok; None if there was no result.
    """

    kernel: str
    case: str
    status: Status
    reason: str | None
    worst: float | None


def make_case(
    m: int, n: int, k: int, *, bits: int, rank: int, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> CheckCase:
    """A weight with scales of both signs and levels on the 7-bit grid (the integers at an odd seed: off the grid)."""
    generator = torch.Generator().manual_seed(seed)
    levels_L = torch.tensor(named_codebook(f"int{bits}" if seed % 2 else f"nf{bits}-grid7").levels)
    codes_NK = torch.randint(0, 1 << bits, (n, k), generator=generator, dtype=torch.uint8)
    b_NR = (torch.randn(n, rank, generator=generator) * 0.3).half()
    a_RK = (torch.randn(rank, k, generator=generator) * 0.3).half()
    return CheckCase(
        name=f"m{m}-n{n}-k{k}-b{bits}-r{rank}-{str(dtype).removeprefix('torch.')}",
        codes_NK=codes_NK.to(device),
        packed=pack_codes(codes_NK, bits).to(device),
        b_NR=b_NR.to(device),
        a_RK=a_RK.to(device),
        levels_L=levels_L.to(device),
        bits=bits,
        x_MK=torch.randn(m, k, generator=generator).to(device, dtype),
        bias_N=torch.randn(n, generator=generator).to(device, dtype),
    )


def all_cases(device: torch.device) -> Iterator[CheckCase]:
    """Every shape, width and dtype, the ranks and kinds of levels in turn."""
    for index, ((m, n, k), bits, dtype) in enumerate(product(SHAPES, (4, 3, 2), DTYPES)):
        rank = RANKS[index % len(RANKS)]
        yield make_case(m, n, k, bits=bits, rank=rank, dtype=dtype, device=device, seed=index)


def check_kernels(
    cases: Iterator[CheckCase],
    *,
    kernels: tuple[str, ...] = tuple(KERNELS),
    prepare_case: Callable[[CheckCase], PreparedWeight] = lambda case: prepare(case, case.x_MK.dtype),
    on_result: Callable[[CheckResult], None] | None = None,
) -> tuple[CheckResult, ...]:
    """Run every kernel on every case that it supports; what it does not support is a result with its reason."""
    results = []
    for case in cases:
        weight = prepare_case(case)
        for name in kernels:
            results.append(check(KERNELS[name], case, weight))
            if on_result is not None:
                on_result(results[-1])
    return tuple(results)


def check(kernel: Kernel, case: CheckCase, weight: PreparedWeight) -> CheckResult:
    """One kernel on one case."""

    def result(status: Status, reason: str | None, worst: float | None = None) -> CheckResult:
        return CheckResult(kernel=kernel.name, case=case.name, status=status, reason=reason, worst=worst)

    support = kernel.supports(case.x_MK.shape[0], weight, case.x_MK.dtype)
    if not support.ok:
        return result(Status.UNSUPPORTED, support.reason)
    try:
        with nan_filled_allocations():
            y_MN = kernel.launch(case.x_MK, weight, case.bias_N, None)
            again_MN = kernel.launch(case.x_MK, weight, case.bias_N, None)
    # Whatever a kernel raises is the outcome of its check, and the other kernels go on.
    except Exception as error:  # noqa: BLE001
        return result(
            Status.LAUNCH_ERROR, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
    expected_MN, bound_MN = expected_and_bound(kernel.name, case, weight)
    worst = float(((y_MN.double() - expected_MN).abs() / bound_MN).nan_to_num(nan=torch.inf).max())
    if worst > 1:
        return result(Status.INCORRECT, f"error is {worst:.3g} times its bound", worst)
    if not torch.equal(y_MN, again_MN):
        return result(Status.INCORRECT, "a second launch gave other bits", worst)
    return result(Status.OK, None, worst)


def expected_and_bound(kernel: str, case: CheckCase, weight: PreparedWeight) -> tuple[Tensor, Tensor]:
    """y_MN in float64, and how far each element of the kernel's result may lie from it."""
    x_MK, b_NR, a_RK = case.x_MK.double(), case.b_NR.double(), case.a_RK.double()
    values_NK = case.levels_L.double()[case.codes_NK.long()]
    expected_MN = x_MK @ (values_NK * (b_NR @ a_RK)).t() + case.bias_N.double()
    factors_NK = values_NK.abs() * (b_NR.abs() @ a_RK.abs())
    magnitudes = Magnitudes(
        terms=x_MK.abs() @ (values_NK * (b_NR @ a_RK)).abs().t() + case.bias_N.double().abs(),
        factors=x_MK.abs() @ factors_NK.t(),
        inputs=x_MK.abs().sum(1, keepdim=True).expand(-1, case.packed.shape[0]),
    )
    dtype, k, rank = case.x_MK.dtype, x_MK.shape[1], b_NR.shape[1]
    if kernel == "rank_expanded":
        magnitudes = replace(
            magnitudes,
            terms=magnitudes.factors + case.bias_N.double().abs(),
            fixed_point=_fixed_point_error(x_MK, b_NR, a_RK, values_NK),
        )
        bound = error_bound(
            expected_MN, magnitudes, steps=8 + k // 128, rank=rank, roundings=0, compute=torch.float32, result=dtype
        )
    else:
        roundings = {"reference": 0, "dequantize_matmul": 1}.get(kernel, _operand_roundings(weight))
        bound = error_bound(
            expected_MN, magnitudes, steps=k, rank=rank, roundings=roundings, compute=dtype, result=dtype
        )
    return expected_MN, bound


def _operand_roundings(weight: PreparedWeight) -> int:
    """S and the product with a level are rounded; a table's levels are rounded to the compute dtype as well."""
    from lords_bench.prepared import DECODERS

    return 3 if DECODERS[weight.decoder] in ("table", "table16") else 2


def _fixed_point_error(x_MK: Tensor, b_NR: Tensor, a_RK: Tensor, values_NK: Tensor) -> Tensor:
    """Rounding P = A∘x to 16 bits per rank and K chunk: Σ_r |B| ½ step Σ_k |level|, chunks of at most 512 inputs."""
    error_MN = torch.zeros(x_MK.shape[0], b_NR.shape[0], dtype=torch.float64, device=x_MK.device)
    for first in range(0, x_MK.shape[1], 512):
        part = slice(first, first + 512)
        largest_MR = (x_MK[:, None, part] * a_RK[None, :, part]).abs().amax(-1)
        error_MN += (largest_MR / 32512 * 0.5001) @ b_NR.abs().t() * values_NK[:, part].abs().sum(1)
    return error_MN


@contextmanager
def nan_filled_allocations() -> Iterator[None]:
    """Within it, `torch.empty` gives NaN: PyTorch fills new memory in its deterministic mode."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
