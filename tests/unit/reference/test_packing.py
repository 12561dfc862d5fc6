"""Where each code lies in the packed words, written out by hand; that packing has an inverse is a property test."""

import pytest
import torch

from lords_bench.errors import WeightError
from lords_bench.reference.packing import pack_codes, pack_stream, packed_shape, unpack_codes


def packed_with_one_code(bits: int, position: int, lane: int, code: int) -> dict[tuple[int, int], int]:
    """Non-zero words, as unsigned numbers by (plane, lane), of one K block with a single non-zero code."""
    codes_NK = torch.zeros(1, {4: 128, 3: 256, 2: 128}[bits], dtype=torch.uint8)
    codes_NK[0, 16 * position + lane] = code
    words = pack_codes(codes_NK, bits)[0, 0].to(torch.int32) & 0xFFFF
    return {(plane, at): int(words[plane, at]) for plane, at in words.nonzero().tolist()}


@pytest.mark.parametrize(
    ("bits", "position", "lane", "code", "expected"),
    [
        (4, 0, 5, 0xA, {(0, 5): 0xA}),
        (4, 3, 0, 0xF, {(0, 0): 0xF000}),
        (4, 6, 15, 0x9, {(1, 15): 0x0900}),
        (2, 7, 2, 0b11, {(0, 2): 0b11 << 14}),
        (3, 1, 4, 0b011, {(0, 4): 0b11 << 2}),
        (3, 0, 0, 0b100, {(2, 0): 1 << 0}),
        (3, 1, 0, 0b100, {(2, 0): 1 << 1}),
        (3, 2, 0, 0b100, {(2, 0): 1 << 4}),
        (3, 8, 0, 0b100, {(2, 0): 1 << 2}),
        (3, 15, 9, 0b111, {(1, 9): 0b11 << 14, (2, 9): 1 << 15}),
    ],
)
def test_a_code_lies_at_its_place(
    bits: int, position: int, lane: int, code: int, expected: dict[tuple[int, int], int]
) -> None:
    assert packed_with_one_code(bits, position, lane, code) == expected


@pytest.mark.parametrize(("bits", "shape"), [(4, (5, 2, 2, 16)), (3, (5, 1, 3, 16)), (2, (5, 2, 1, 16))])
def test_a_ragged_row_is_padded_to_whole_blocks(bits: int, shape: tuple[int, ...]) -> None:
    codes_NK = torch.ones(5, 129, dtype=torch.uint8)

    packed = pack_codes(codes_NK, bits)

    assert packed.shape == shape == packed_shape(5, 129, bits)
    assert packed.dtype == torch.int16


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_packing_costs_exactly_its_bits_where_blocks_fit(bits: int) -> None:
    packed = pack_codes(torch.zeros(8, 512, dtype=torch.uint8), bits)

    assert packed.numel() * packed.element_size() * 8 == bits * 8 * 512


def test_many_rows_unpack_to_what_was_packed() -> None:
    """More rows than one panel holds."""
    codes_NK = torch.randint(0, 8, (300, 1024), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    assert torch.equal(unpack_codes(pack_codes(codes_NK, 3), 3, 1024), codes_NK)


def test_a_code_that_needs_more_bits_is_refused() -> None:
    with pytest.raises(WeightError, match=r"code 8 does not fit into 3 bits; codes go from 0 to 7"):
        pack_codes(torch.full((1, 16), 8, dtype=torch.uint8), 3)


def test_a_stream_of_three_bit_codes_fills_its_bytes_from_the_low_end() -> None:
    # 0b001, 0b010, 0b111: bits 1 0 0 | 0 1 0 | 1 1 (1), low end first, so 0b11010001 and 0b1.
    packed = pack_stream(torch.tensor([[1, 2, 7]], dtype=torch.uint8), 3)

    assert packed.tolist() == [0b11010001, 0b1]
