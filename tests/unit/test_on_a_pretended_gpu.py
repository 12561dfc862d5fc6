"""The reference's ways for a GPU give what its ways for a CPU give, and mix no devices, shown without a GPU."""

import pytest
import torch

from lords_bench.kernel_check import make_case
from lords_bench.kernel_check.cases import case_grid, prepared_for
from lords_bench.kernel_check.check import expected_and_bound
from lords_bench.kernels.common.gpu import ANY_GPU
from lords_bench.kernels.common.prepared import prepare
from lords_bench.products.registry import KERNELS
from lords_bench.quant import QuantSpec
from lords_bench.records.latency import LatencyCase
from lords_bench.reference.fields import BlockField
from lords_bench.reference.lowrank import truncated_svd
from lords_bench.reference.methods import quantize
from lords_bench.suites.baselines.problem import LayerProblem
from lords_bench.suites.baselines.registry import builder
from lords_bench.suites.cost.cases import synthetic_weight
from lords_bench.suites.cost.ptq import relative_error
from lords_bench.tuning.plan import FAKE_MACHINE
from pretend_cuda import MixedDevicesError, PretendCuda, pretended_cuda, to_cpu

N, K = 48, 128
SPECS = (
    *(QuantSpec(method=method) for method in ("nf4", "block-opt", "int-rtn", "lords", "lords-paper", "gptq")),
    QuantSpec(method="nf4", double_quant=True),
    QuantSpec(method="block-opt", levels="learned"),
    QuantSpec(method="lords", bits=2, levels="learned"),
    QuantSpec(method="lords-gptq", bits=3),
)


def name(spec: QuantSpec) -> str:
    return f"{spec.method}-{spec.bits}-{spec.levels}" + ("-double" if spec.double_quant else "")


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_a_weight_is_quantized_on_a_gpu_as_on_a_cpu(spec: QuantSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    weight_NK = synthetic_weight(N, K, seed=3, device=torch.device("cpu"), dtype=torch.float64)
    inputs_TK = torch.randn(4 * K, K, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    hessian_KK = inputs_TK.T @ inputs_TK / len(inputs_TK) if spec.needs_hessian else None
    on_cpu = quantize(weight_NK, spec, hessian_KK=hessian_KK)

    with pretended_cuda(monkeypatch) as gpu:
        on_gpu = quantize(weight_NK.to(gpu), spec, hessian_KK=None if hessian_KK is None else hessian_KK.to(gpu))
        assert all(isinstance(tensor, PretendCuda) for tensor in on_gpu.tensors().values())
        stored_NK = to_cpu(on_gpu.dequantize(torch.float64))
        codes_NK = to_cpu(on_gpu.codes())
        error = relative_error(weight_NK.to(gpu), on_gpu)

    # Float64, so that another order of the sums moves few codes, and each of them to a level as near.
    differing = float((codes_NK != on_cpu.codes()).double().mean())
    expected = relative_error(weight_NK, on_cpu)
    assert differing <= 0.02
    assert error == pytest.approx(expected, rel=0.01)
    assert stored_NK.isfinite().all()


def test_the_start_of_a_low_rank_fit_is_the_same_by_the_way_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    scale_NG = torch.rand(40, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = truncated_svd(BlockField(scale_NG=scale_NG, block=2), 3, seed=0).expand()

    with pretended_cuda(monkeypatch) as gpu:
        found = truncated_svd(BlockField(scale_NG=scale_NG.to(gpu), block=2), 3, seed=0).expand()

    torch.testing.assert_close(to_cpu(found), expected, rtol=1e-12, atol=1e-12)


def test_problems_of_the_latency_suite_are_built_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    case = LatencyCase(model="toy", layer="layer", m=3, n=N, k=K, bits=4, block=64)

    with pretended_cuda(monkeypatch) as gpu:
        problem = LayerProblem(case, device=gpu, dtype=torch.bfloat16)
        tensors = [problem.draw_x(), problem.weight_NK, *problem.draw_adapter(), *problem.blocks.tensors().values()]
        tensors += [*problem.integers.tensors().values(), problem.lords.packed, problem.lords.codes_NK]
        dense_NK = problem.blocks.dequantize(torch.float64)

    assert all(isinstance(tensor, PretendCuda) for tensor in (*tensors, dense_NK))


def test_cases_of_the_check_and_their_bounds_are_made_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_cuda(monkeypatch) as gpu:
        case = make_case(**case_grid()[0], device=gpu)
        expected, bound = expected_and_bound("rank_expanded", case, prepare(case, torch.float64))

    assert isinstance(expected, PretendCuda)
    assert isinstance(bound, PretendCuda)
    assert bool((to_cpu(bound) > 0).all())


@pytest.mark.parametrize("kernel", [name for name in KERNELS if name != "reference"])
def test_weights_are_prepared_for_kernels_on_the_device(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_cuda(monkeypatch) as gpu:
        for bits, seed in ((4, 0), (3, 0), (2, 1)):
            case = make_case(3, N, K, bits=bits, rank=5, dtype=torch.bfloat16, device=gpu, seed=seed)
            weight = prepared_for(KERNELS[kernel], case)
            expected, bound = expected_and_bound(kernel, case, weight)

            assert isinstance(expected, PretendCuda)
            assert bool((to_cpu(bound) > 0).all())


def test_every_way_of_this_project_is_built_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lords_bench.products.keys.cuda_machine", lambda _index: FAKE_MACHINE)
    monkeypatch.setattr("lords_bench.kernels.common.gpu.gpu_of", lambda _device: ANY_GPU)
    case = LatencyCase(model="toy", layer="layer", m=3, n=N, k=K, bits=4, block=64)

    with pretended_cuda(monkeypatch) as gpu:
        problem = LayerProblem(case, device=gpu, dtype=torch.bfloat16)
        for method in ("lords", "dense", "nf-block", "nf-dequantize", "int-block", "qlora-fused", "qlora-merged"):
            way = builder(method)(problem)
            expected, bound = way.expected(problem.draw_x().double())

            assert isinstance(expected, PretendCuda), method
            assert isinstance(bound, PretendCuda), method


def test_synthetic_weights_are_made_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_cuda(monkeypatch) as gpu:
        assert isinstance(synthetic_weight(N, K, seed=0, device=gpu, dtype=torch.bfloat16), PretendCuda)


def test_the_pretended_gpu_refuses_what_a_real_one_would(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_cuda(monkeypatch) as gpu:
        there, here = torch.ones(3, device=gpu), torch.ones(3)

        assert there.is_cuda
        assert to_cpu(there + 1).tolist() == [2.0, 2.0, 2.0]
        assert to_cpu(there * torch.tensor(2.0)).tolist() == [2.0, 2.0, 2.0]
        assert type(there.cpu()) is torch.Tensor
        assert there[torch.tensor([0, 2])].shape == (2,)
        with pytest.raises(MixedDevicesError, match="cuda:0 and of cpu"):
            there + here
        there.copy_(here * 5)
        assert there.sum().item() == 15.0
