"""Reading TTGIR: products without tensor cores, what a byte decoder meets, and how wide codes are loaded."""

import pytest

from lords_bench.static.ttgir import consecutive_columns, parse_ttgir

LISTING = """
#blocked = #ttg.blocked<{sizePerThread = [1, 16], threadsPerWarp = [4, 8], warpsPerCTA = [2, 1], order = [1, 0]}>
#blocked1 = #ttg.blocked<{sizePerThread = [1, 4], threadsPerWarp = [4, 8], warpsPerCTA = [2, 1], order = [1, 0]}>
#mma = #ttg.nvidia_mma<{versionMajor = 2, versionMinor = 0, warpsPerCTA = [2, 1], instrShape = [16, 8]}>
  %0 = ttg.async_copy_global_to_local %p, %s : tensor<64x128x!tt.ptr<i8>, #blocked> -> <64x128xi8, #shared, mutable>
  %1 = tt.load %q : tensor<64x16x!tt.ptr<i16>, #blocked1> loc(#loc1)
  %2 = tt.load %r : tensor<64x16x!tt.ptr<f16>, #blocked1> loc(#loc1)
  %3 = tt.load %t : tensor<64x16x!tt.ptr<i8>, #mma> loc(#loc1)
  %4:2 = tt.elementwise_inline_asm "x" {constraints = "=r,r", packed_element = 4 : i32, pure = true} %0, %c : \
tensor<64x128xi8, #ttg.dot_op<{opIdx = 0, parent = #mma, kWidth = 4}>>, tensor<64x128xi32, #mma> -> tensor<64x128xi8>
  %5 = tt.dot %4, %x, %y : tensor<64x16xf16, #ttg.dot_op<{opIdx = 0, parent = #mma, kWidth = 2}>> * \
tensor<16x8xf16, #ttg.dot_op<{opIdx = 1, parent = #mma, kWidth = 2}>> -> tensor<64x8xf32, #mma> loc(#loc2)
  %6 = tt.dot %4, %x, %y : tensor<64x16xf32, #ttg.dot_op<{opIdx = 0, parent = #blocked1}>> * \
tensor<16x8xf32, #ttg.dot_op<{opIdx = 1, parent = #blocked1}>> -> tensor<64x8xf32, #blocked1> loc(#loc2)
  %7 = ttng.warp_group_dot %a, %b, %c : tensor<64x16xf16, #mma> * !ttg.memdesc<16x8xf16> -> tensor<64x8xf32, #mma>
  %8 = ttng.warp_group_dot_wait %7 {pendings = 0 : i32} : tensor<64x8xf32, #mma>
"""


def test_products_are_counted_and_those_in_a_blocked_layout_run_without_tensor_cores() -> None:
    facts = parse_ttgir(LISTING)

    assert (facts.products, facts.scalar_products) == (3, 1)


def test_loads_of_codes_are_integer_tiles_but_not_look_ups_in_an_operands_layout() -> None:
    assert parse_ttgir(LISTING).code_load_bytes == (16, 8)


def test_a_byte_decoder_meets_the_columns_of_its_operand_layout() -> None:
    assert parse_ttgir(LISTING).byte_decoder_columns == (4,)


@pytest.mark.parametrize(
    ("layout", "columns"),
    [
        ("#ttg.dot_op<{opIdx = 0, parent = #mma, kWidth = 2}>", 2),
        ("#ttg.blocked<{sizePerThread = [1, 8], threadsPerWarp = [2, 16], warpsPerCTA = [2, 1], order = [1, 0]}>", 8),
        ("#ttg.blocked<{sizePerThread = [8, 1], threadsPerWarp = [2, 16], warpsPerCTA = [2, 1], order = [0, 1]}>", 1),
        ("#ttg.linear<{register = [[0, 1], [0, 2], [8, 0]], lane = [[0, 4]], warp = [], block = []}>", 4),
        ("#ttg.linear<{register = [[8, 0], [0, 1]], lane = [[0, 4]], warp = [], block = []}>", 1),
        ("#mma", 1),
    ],
)
def test_consecutive_columns_of_a_layout(layout: str, columns: int) -> None:
    assert consecutive_columns(layout, {}) == columns
