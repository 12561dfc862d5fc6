"""Signs of rows and columns: turned where the mirrored levels serve better, never to the worse."""

import torch
from torch import Tensor

from lords_bench.reference.codebooks import levels_tensor
from lords_bench.reference.fields import LowRankField
from lords_bench.reference.lowrank import squared_error
from lords_bench.reference.mirror import mirrored
from lords_bench.reference.scale_gradient import ScaleGradient
from lords_bench.reference.workers import PanelWorkers
from lords_bench.spec import named_codebook

N, K = 40, 60


def levels(name: str = "nf2") -> Tensor:
    return levels_tensor(named_codebook(name))


def problem() -> tuple[Tensor, LowRankField]:
    """A weight that nf2 represents exactly after some rows and columns have been turned, and its scale before that."""
    generator = torch.Generator().manual_seed(2)
    signs_N1 = torch.where(torch.randn(N, 1, generator=generator) < 0, -1.0, 1.0)
    signs_K = torch.where(torch.randn(K, generator=generator) < 0, -1.0, 1.0)
    weight = levels()[torch.randint(4, (N, K), generator=generator)] * signs_N1 * signs_K
    return weight, LowRankField(b_NR=torch.ones(N, 1), a_RK=torch.ones(1, K))


def turn(weight: Tensor, field: LowRankField, **options: Tensor) -> LowRankField:
    rows, columns = options.get("rows", torch.ones(N)), options.get("columns", torch.ones(K))
    return mirrored(weight, field, levels(), row_weight_N=rows, column_weight_K=columns, seed=0)


def make_gradient(weight: Tensor, field: LowRankField) -> ScaleGradient:
    ones = {"row_weight_N": torch.ones(N), "column_weight_K": torch.ones(K)}
    return ScaleGradient(weight, field.b_NR, field.a_RK, levels(), workers=PanelWorkers(weight.device), **ones)


def test_hidden_signs_are_found() -> None:
    weight, field = problem()
    assert squared_error(weight, field, levels()) > 1.0

    assert squared_error(weight, turn(weight, field), levels()) < 1e-9


def test_only_signs_change() -> None:
    weight, field = problem()

    turned = turn(weight, field)

    assert torch.equal(turned.b_NR.abs(), field.b_NR)
    assert torch.equal(turned.a_RK.abs(), field.a_RK)


def test_inputs_without_weight_do_not_decide() -> None:
    weight, field = problem()
    columns = torch.ones(K)
    columns[30:] = 0.0
    weight[:, 30:] = torch.randn(N, 30, generator=torch.Generator().manual_seed(3))

    turned = turn(weight, field, columns=columns)

    assert squared_error(weight, turned, levels(), input_weight_K=columns) < 1e-9


def test_symmetric_levels_leave_nothing_to_gain() -> None:
    weight, field = problem()
    symmetric = levels("fp4")

    turned = mirrored(weight, field, symmetric, row_weight_N=torch.ones(N), column_weight_K=torch.ones(K), seed=0)

    before, after = squared_error(weight, field, symmetric), squared_error(weight, turned, symmetric)
    torch.testing.assert_close(after, before)


def test_rows_turn_exactly_where_their_error_falls() -> None:
    weight, field = problem()
    gradient = make_gradient(weight, field)

    def row_errors(scale_NK: Tensor) -> Tensor:
        return (weight.unsqueeze(2) - scale_NK.unsqueeze(2) * levels()).abs().amin(dim=2).square().sum(dim=1)

    better = row_errors(-field.expand()) < row_errors(field.expand())

    assert torch.equal(gradient.mirror_rows() < 0, better)
    assert torch.equal(gradient.b_NR[:, 0] < 0, better)


def test_columns_turn_exactly_where_their_error_falls() -> None:
    weight, field = problem()
    gradient = make_gradient(weight, field)

    def column_errors(scale_NK: Tensor) -> Tensor:
        return (weight.unsqueeze(2) - scale_NK.unsqueeze(2) * levels()).abs().amin(dim=2).square().sum(dim=0)

    better = column_errors(-field.expand()) < column_errors(field.expand())

    assert torch.equal(gradient.mirror_columns() < 0, better)
    assert torch.equal(gradient.a_RK[0] < 0, better)
