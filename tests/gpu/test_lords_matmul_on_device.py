"""On a CUDA device: every kernel against float64, the operator in a CUDA graph, compiled, and across shapes."""

import pytest
import torch

from lords_bench.errors import UsageError
from lords_bench.kernel_check import all_cases, check_kernels, expected_and_bound, make_case
from lords_bench.kernels.common.prepared import prepare
from lords_bench.products.ops import lords_matmul
from lords_bench.records.status import Status

DEVICE = torch.device("cuda")


def test_every_kernel_is_right_on_every_case_it_takes() -> None:
    results = check_kernels(all_cases(DEVICE))

    wrong = [result for result in results if result.status not in (Status.OK, Status.UNSUPPORTED)]
    assert wrong == []


@pytest.mark.parametrize("m", [1, 2, 17, 100, 2000])
def test_the_operator_picks_a_kernel_that_is_right(m: int) -> None:
    case = make_case(m, 256, 1024, bits=4, rank=16, dtype=torch.bfloat16, device=DEVICE)
    weight = prepare(case, torch.bfloat16)

    y_MN = lords_matmul(case.x_MK, weight, case.bias_N)

    expected_MN, bound_MN = expected_and_bound("scale_tile", case, weight)
    _, integer_bound_MN = expected_and_bound("rank_expanded", case, weight)
    assert bool(((y_MN.double() - expected_MN).abs() <= torch.maximum(bound_MN, integer_bound_MN)).all())


@pytest.mark.parametrize("m", [1, 8, 64])
def test_a_second_call_of_any_alignment_and_stream_repeats_the_first(m: int) -> None:
    """It is launched by a handle where it may be."""
    case = make_case(m, 256, 1024, bits=4, rank=16, dtype=torch.bfloat16, device=DEVICE)
    weight = prepare(case, torch.bfloat16)
    wide = torch.zeros(m, 2 * 1024 + 2, dtype=torch.bfloat16, device=DEVICE)
    places = (wide[:, :1024], wide[:, 1:1025], wide[:, :2048:2], case.x_MK)
    first = []
    for x_MK in places:
        x_MK.copy_(case.x_MK)
        first.append(lords_matmul(x_MK, weight))

    for _ in range(2):
        for x_MK, y_MN in zip(places, first, strict=True):
            x_MK.copy_(case.x_MK)
            assert torch.equal(lords_matmul(x_MK, weight), y_MN)
            torch.cuda.synchronize()
            with torch.cuda.stream(torch.cuda.Stream()):
                assert torch.equal(lords_matmul(x_MK, weight), y_MN)
            torch.cuda.synchronize()


@pytest.mark.parametrize("m", [1, 8, 64])
def test_a_cuda_graph_replays_on_new_activations(m: int) -> None:
    case = make_case(m, 256, 1024, bits=4, rank=16, dtype=torch.bfloat16, device=DEVICE)
    weight = prepare(case, torch.bfloat16)
    x_MK = case.x_MK.clone()
    lords_matmul(x_MK, weight)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y_MN = lords_matmul(x_MK, weight)

    for scale in (1.0, -2.0):
        x_MK.copy_(case.x_MK * scale)
        graph.replay()
        assert torch.equal(y_MN, lords_matmul(x_MK, weight))


def test_a_compiled_layer_gives_the_same_bits() -> None:
    case = make_case(4, 256, 1024, bits=4, rank=16, dtype=torch.bfloat16, device=DEVICE)
    weight = prepare(case, torch.bfloat16)

    compiled = torch.compile(lambda x: lords_matmul(x, weight), fullgraph=True)

    assert torch.equal(compiled(case.x_MK), lords_matmul(case.x_MK, weight))


def test_gradients_agree_with_those_of_the_reference() -> None:
    case = make_case(96, 256, 512, bits=4, rank=16, dtype=torch.bfloat16, device=DEVICE)
    found = []
    for device, dtype in ((DEVICE, torch.bfloat16), (torch.device("cpu"), torch.float64)):
        b_NR, a_RK, x_MK = (
            tensor.to(device, torch.float32 if dtype == torch.bfloat16 else dtype).requires_grad_()
            for tensor in (case.b_NR, case.a_RK, case.x_MK)
        )
        stored = make_case(96, 256, 512, bits=4, rank=16, dtype=torch.bfloat16, device=device)
        weight = prepare(stored, dtype).with_factors(b_NR, a_RK)
        y_MN = lords_matmul(x_MK.to(dtype), weight)
        found.append(torch.autograd.grad(y_MN.float().sum(), (x_MK, b_NR, a_RK)))

    for ours, expected in zip(*found, strict=True):
        # bf16 operands: 2^-8 of the largest element, which the per-element bounds of the kernel tests refine.
        assert float((ours.cpu().double() - expected).abs().max()) <= 2**-7 * float(expected.abs().max())


def test_an_activation_on_another_device_is_refused() -> None:
    case = make_case(2, 64, 256, bits=4, rank=16, dtype=torch.bfloat16, device=DEVICE)

    with pytest.raises(UsageError, match="x is on cpu, the weight on cuda:0"):
        lords_matmul(case.x_MK.cpu(), prepare(case, torch.bfloat16))
