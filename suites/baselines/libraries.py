"""Ways of other projects, each through the call its users make. What is absent raises `NotInstalledError`.

Every result is held to its own format: W is dequantized here from the packed bytes, never by the library's own code.
"""

import copy
import importlib
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from lords_bench.errors import UsageError, reason_of
from lords_bench.requirements import installed_version
from lords_bench.suites.baselines.own import adapter_expected
from lords_bench.suites.baselines.problem import LayerProblem, Way, expected_of

# Below this version bitsandbytes has no fused product for more than one token.
LEAST_BITSANDBYTES = (0, 50, 1)


class NotInstalledError(UsageError):
    """A baseline's package is absent or too old; one line that says which and how to get it."""


def bitsandbytes(problem: LayerProblem) -> Way:
    """`matmul_4bit`: fused where the library thinks it pays, else its own dequantize + matmul.

    Raises:
        NotInstalledError: no bitsandbytes of at least 0.50.1.
    """
    library = _bitsandbytes()

    def apply(operands: Any, x_MK: Tensor) -> Tensor:
        packed, state = operands
        y_MN: Tensor = library.matmul_4bit(x_MK, packed, quant_state=state)
        return y_MN

    return _bitsandbytes_way(problem, f"bitsandbytes {library.__version__} matmul_4bit", apply)


def bitsandbytes_dequantize(problem: LayerProblem) -> Way:
    """`dequantize_4bit` to a scratch matrix, then a dense matmul.

    Raises:
        NotInstalledError: no bitsandbytes of at least 0.50.1.
    """
    library = _bitsandbytes()
    functional = importlib.import_module("bitsandbytes.functional")

    def apply(operands: Any, x_MK: Tensor) -> Tensor:
        packed, state = operands
        return linear(x_MK, functional.dequantize_4bit(packed, state).to(x_MK.dtype))

    return _bitsandbytes_way(problem, f"bitsandbytes {library.__version__} dequantize_4bit + linear", apply)


def qlora_peft(problem: LayerProblem) -> Way:
    """PEFT's LoRA layer on bitsandbytes' 4-bit layer, as `get_peft_model` builds it, without gradients.

    Raises:
        NotInstalledError: no peft, or no bitsandbytes.
    """
    library = _bitsandbytes()
    peft = _import("peft", "pip install peft")
    case, (a_RK, b_NR) = problem.case, problem.draw_adapter()
    base = library.nn.Linear4bit(
        case.k, case.n, bias=False, compute_dtype=problem.dtype, compress_statistics=False, quant_type="nf4"
    )
    base.weight = library.nn.Params4bit(
        problem.weight_NK, requires_grad=False, compress_statistics=False, quant_type="nf4", blocksize=case.block,
        module=base,
    )  # fmt: skip
    holder = torch.nn.Sequential(base).to(problem.device)
    rank = case.rank
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=["0"])
    layer = peft.get_peft_model(holder, config).base_model.model[0]
    layer.to(problem.dtype if problem.device.type != "cpu" else torch.float32)
    with torch.no_grad():
        layer.lora_A["default"].weight.copy_(a_RK)
        layer.lora_B["default"].weight.copy_(b_NR)
    layer.eval().requires_grad_(requires_grad=False)
    packed, state = layer.base_layer.weight.data, layer.base_layer.weight.quant_state
    # The layer repacks its weight at its first call on some CPUs: what it holds is read before.
    weight_NK = _bitsandbytes_weight(packed.clone(), copy.deepcopy(state))

    def dequantize(dtype: torch.dtype) -> Tensor:
        return weight_NK.to(dtype)

    return Way(
        kernel=f"peft {peft.__version__} on bitsandbytes {library.__version__}",
        operands=layer,
        apply=lambda operands, x_MK: operands(x_MK),
        # On a CPU with AVX512-BF16 the library's layer computes in bfloat16 whatever the dtype it was asked for.
        expected=adapter_expected(
            problem, dequantize, a_RK, b_NR,
            compute=torch.bfloat16 if problem.device.type == "cpu" else problem.dtype,
        ),
        stored_bytes=_state_bytes(packed, state) + a_RK.nbytes + b_NR.nbytes,
        config_origin="library",
    )  # fmt: skip


def tinygemm(problem: LayerProblem) -> Way:
    """Torch's own int4 product with group scales and zero points.

    Raises:
        UsageError: a problem that its operator does not take.
    """
    case, weight = problem.case, problem.integers
    if case.block not in (32, 64, 128, 256):
        raise UsageError(f"tinygemm has groups of 32, 64, 128 and 256, not {case.block}")
    codes_NK = weight.codes().int()
    zeros_NG = weight.zeros()
    on_cpu = problem.device.type == "cpu"
    # The operator computes (code − 8) · scale + zero in the dtype of x.
    scale_NG = weight.scales().to(problem.dtype)
    offset_NG = ((8 - zeros_NG.float()) * scale_NG.float()).to(problem.dtype)
    scales = torch.stack([scale_NG, offset_NG], dim=-1).transpose(0, 1).contiguous()
    if on_cpu:
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes_NK, 1)  # noqa: SLF001
        product = torch.ops.aten._weight_int4pack_mm_for_cpu  # noqa: SLF001
    else:
        if problem.dtype != torch.bfloat16:
            raise UsageError(f"tinygemm takes bfloat16 activations on a GPU, not {problem.dtype}")
        pairs = (codes_NK[:, ::2] << 4 | codes_NK[:, 1::2]).to(torch.uint8)
        packed = torch.ops.aten._convert_weight_to_int4pack(pairs, 8)  # noqa: SLF001
        product = torch.ops.aten._weight_int4pack_mm  # noqa: SLF001

    def apply(operands: Any, x_MK: Tensor) -> Tensor:
        held, held_scales = operands
        y_MN: Tensor = product(x_MK, held, case.block, held_scales)
        return y_MN

    def weight_NK() -> Tensor:
        codes_NGJ = codes_NK.double().view(case.n, -1, case.block)
        return ((codes_NGJ - 8) * scale_NG.double().unsqueeze(2) + offset_NG.double().unsqueeze(2)).flatten(1)

    return Way(
        kernel=f"torch {torch.__version__} _weight_int4pack_mm" + ("_for_cpu" if on_cpu else ""),
        operands=(packed, scales),
        apply=apply,
        expected=_int_expected(problem, weight_NK, offset_NG),
        stored_bytes=packed.nbytes + scales.nbytes,
        config_origin="library",
    )


def gemlite(problem: LayerProblem) -> Way:
    """The `GemLiteLinear` of gemlite on 4-bit groups with zero points, with the configurations that it ships or finds.

    Raises:
        NotInstalledError: no gemlite.
        UsageError: no GPU.
    """
    if problem.device.type == "cpu":
        raise UsageError("gemlite cannot be imported without a GPU")
    library = _import("gemlite", "pip install gemlite")
    case, weight = problem.case, problem.integers
    dtypes = {
        torch.bfloat16: library.DType.BF16,
        torch.float16: library.DType.FP16,
        torch.float32: library.DType.FP32,
    }
    layer = library.GemLiteLinear(
        W_nbits=4, group_size=case.block, in_features=case.k, out_features=case.n,
        input_dtype=dtypes[problem.dtype], output_dtype=dtypes[problem.dtype],
    )  # fmt: skip
    codes_NK, zeros_NG = weight.codes(), weight.zeros()
    scale_NG = weight.scales().to(problem.dtype)
    layer.pack(codes_NK, scale_NG.view(-1, 1), zeros_NG.to(problem.dtype).view(-1, 1), None)

    def weight_NK() -> Tensor:
        codes_NGJ = codes_NK.double().view(case.n, -1, case.block)
        return ((codes_NGJ - zeros_NG.double().unsqueeze(2)) * scale_NG.double().unsqueeze(2)).flatten(1)

    # It adds partial sums of a split K in the dtype of x, in the order that they come.
    return Way(
        kernel=f"gemlite {library.__version__} GemLiteLinear",
        operands=layer,
        apply=lambda operands, x_MK: operands(x_MK),
        expected=_int_expected(problem, weight_NK, zeros_NG * scale_NG, roundings=4 + case.k // 32),
        stored_bytes=sum(tensor.nbytes for tensor in (*layer.parameters(), *layer.buffers())),
        config_origin="library",
    )


def _int_expected(problem: LayerProblem, weight_NK: Any, offset_NG: Tensor, *, roundings: int = 4) -> Any:
    """As `expected_of`, with Σ|x|(|W| + |offset|) as magnitude: code · scale and offset may cancel."""
    block = problem.case.block

    def cancelled(x_MK: Tensor) -> tuple[Tensor, Tensor]:
        offset_NK = offset_NG.double().abs().repeat_interleave(block, 1)
        terms_MN = 2 * x_MK.abs() @ offset_NK.t()
        return torch.zeros_like(terms_MN), terms_MN

    return expected_of(weight_NK, result=problem.dtype, roundings=roundings, compute=problem.dtype, extra_MN=cancelled)


def _bitsandbytes() -> Any:
    found = installed_version("bitsandbytes")
    if found is not None and tuple(int(part) for part in found.split(".")[:3] if part.isdecimal()) < LEAST_BITSANDBYTES:
        least = ".".join(map(str, LEAST_BITSANDBYTES))
        raise NotInstalledError(
            f"bitsandbytes {found} is older than {least}, which has the fused products; pip install -U"
        )
    return _import("bitsandbytes", "pip install 'lords_bench[bnb]'")


def _bitsandbytes_way(problem: LayerProblem, kernel: str, apply: Any) -> Way:
    functional = importlib.import_module("bitsandbytes.functional")
    packed, state = functional.quantize_4bit(
        problem.weight_NK, blocksize=problem.case.block, compress_statistics=False, quant_type="nf4"
    )
    dtype = problem.dtype
    return Way(
        kernel=kernel,
        operands=(packed, state),
        apply=apply,
        # Level, scale, their product and its product with x are each rounded in its kernel for few tokens.
        expected=expected_of(
            lambda: _bitsandbytes_weight(packed, state), result=dtype, roundings=5, compute=dtype
        ),
        stored_bytes=_state_bytes(packed, state),
        config_origin="library",
    )  # fmt: skip


def _bitsandbytes_weight(packed: Tensor, state: Any) -> Tensor:
    """W_NK in float64: two codes a byte, the first in the high half, blocks along the flattened weight."""
    pairs = packed.view(torch.uint8).view(-1, 1)
    codes = torch.cat([pairs >> 4, pairs & 15], dim=1).flatten().long()
    values = state.code.to(codes.device).double()[codes].view(-1, state.blocksize)
    weight: Tensor = (values * state.absmax.double().view(-1, 1)).view(tuple(state.shape))
    return weight


def _state_bytes(packed: Tensor, state: Any) -> int:
    return int(packed.nbytes) + int(state.absmax.nbytes)


def _import(package: str, remedy: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        if installed_version(package) is None:
            raise NotInstalledError(f"{package} is not installed; {remedy}") from None
        raise NotInstalledError(f"{package} cannot be imported: {reason_of(error)}") from error
