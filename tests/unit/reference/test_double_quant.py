"""Scales in 8 bits: the map, its runs, and the cost. That they equal bitsandbytes' is tested beside it."""

import torch

from lords_bench.reference.double_quant import double_quantize, dynamic_map


def test_the_dynamic_map_has_256_sorted_levels_with_zero_and_one() -> None:
    levels = dynamic_map()

    assert levels.shape == (256,)
    assert torch.equal(levels, levels.unique())
    assert float(levels[127]) == 0.0
    assert float(levels[255]) == 1.0
    # The finest cells: 64 even cells of [0.1, 1], so centres 9/640 apart, the last at 1 - 9/1280.
    torch.testing.assert_close(levels[254] - levels[253], torch.tensor(9 / 640))
    torch.testing.assert_close(levels[254], torch.tensor(1 - 9 / 1280))


def test_two_scales_come_back_as_worked_out_by_hand() -> None:
    # Mean 5, deviations ±2, magnitude 2: the upper is level 1, the lower the lowest level there is, -(1 - 9/1280).
    scales = double_quantize(torch.tensor([[7.0, 3.0]]))

    assert (scales.mean.tolist(), scales.run_absmax.tolist()) == ([5.0], [2.0])
    assert scales.scale_codes_NG.tolist() == [[255, 0]]
    torch.testing.assert_close(scales.expand(), torch.tensor([[7.0, 5.0 - 2.0 * (1 - 9 / 1280)]]))


def test_equal_scales_come_back_exactly() -> None:
    assert double_quantize(torch.full((3, 2), 0.7)).expand().tolist() == torch.full((3, 2), 0.7).tolist()


def test_every_run_of_256_scales_has_its_own_magnitude() -> None:
    scale_NG = torch.cat([torch.linspace(1.0, 1.001, 256), torch.linspace(0.5, 1.5, 44)]).view(30, 10)

    scales = double_quantize(scale_NG)

    assert scales.run_absmax.shape == (2,)
    first_run_error = (scales.expand() - scale_NG).flatten()[:256].abs().max()
    assert float(first_run_error) < 0.01 * float(scales.run_absmax[0])


def test_moving_keeps_the_scales() -> None:
    scales = double_quantize(torch.rand(4, 8, generator=torch.Generator().manual_seed(0)))

    assert torch.equal(scales.to("cpu").expand(), scales.expand())
