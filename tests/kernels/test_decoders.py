"""Every decoder gives the right level for every code word, bit for bit, in the PTX emulator."""

import numpy as np
import pytest
import torch

from lords_bench.emulator.inline import run_block
from lords_bench.errors import EmulationError
from lords_bench.kernels.common import ptx
from lords_bench.kernels.common.layout import (
    integer_columns_per_block,
    integer_tile_count,
    k_block,
    k_of_column,
    plane_count,
    position_count,
)
from lords_bench.kernels.common.operands import level_table
from lords_bench.kernels.common.ptx import Decoder
from lords_bench.reference.packing import K_BLOCK, packed_shape, unpack_codes

ALL_WORDS = np.arange(1 << 16, dtype=np.uint32)
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def levels_for(decoder: str, bits: int) -> torch.Tensor:
    """Levels that tell every code apart, of a kind that the decoder takes."""
    count = 1 << bits
    if decoder == "uniform":
        return torch.arange(-count // 2, count // 2) / (count // 2)
    if decoder == "grid7":
        points = torch.linspace(0, 127, count).round()
        return (points - 64) / 63
    return torch.linspace(-1, 1, count) ** 3


def planes_of_two_lanes(bits: int, seed: int) -> list[np.ndarray]:
    """One 32-bit register {lane 1, lane 0} per plane; every plane and lane goes through all 16-bit words."""
    generator = np.random.default_rng(seed)
    lanes = [[generator.permutation(ALL_WORDS) for _ in range(2)] for _ in range(plane_count(bits))]
    return [lane0 | lane1 << np.uint32(16) for lane0, lane1 in lanes]


def codes_of_lane(planes: list[np.ndarray], lane: int, bits: int) -> torch.Tensor:
    """Codes (words, positions) that `reference.packing` reads from one lane."""
    words = np.stack([(plane >> np.uint32(16 * lane)).astype(np.uint16).view(np.int16) for plane in planes], axis=1)
    packed = torch.zeros(len(words), 1, len(planes), 16, dtype=torch.int16)
    packed[:, 0, :, lane] = torch.from_numpy(words)
    codes = unpack_codes(packed, bits, K_BLOCK[bits]).view(len(words), -1, 16)
    return codes[:, :, lane].long()


def registers(words: torch.Tensor) -> list[np.ndarray]:
    """One emulated register per table word (stored 32 times)."""
    return [np.array([word], np.int32).view(np.uint32) for word in words[::32].tolist()]


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("decoder", ["grid7", "table16", "uniform"])
def test_operand_decoder_gives_the_level_of_every_code_word(decoder: str, dtype: str, bits: int) -> None:
    levels = levels_for(decoder, bits)
    table = level_table(levels, bits=bits, dtype=DTYPES[dtype], decoder=decoder)
    words = planes_of_two_lanes(bits, seed=bits)
    per_call = ptx.words_per_call(bits)
    table_registers = [] if decoder == "uniform" else [r for r in registers(table.words) for _ in range(2)]
    results = []
    for first in range(0, len(words), per_call):
        inputs = words[first : first + per_call] + table_registers
        results += run_block(ptx.operand_asm(bits, decoder, dtype), inputs, ptx.operands_per_call(bits))

    for lane in range(2):
        codes = codes_of_lane(words, lane, bits)
        for position in range(position_count(bits)):
            half = (results[position] >> np.uint32(16 * lane)).astype(np.uint16)
            decoded = torch.from_numpy(half.view(np.int16)).view(DTYPES[dtype]).double() * table.unit
            expected = levels[codes[:, position]].double()
            if decoder == "table16":
                expected = expected.to(DTYPES[dtype]).double()
            torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("decoder", ["grid7", "uniform"])
def test_byte_decoder_gives_the_level_of_every_code_word_at_its_input(decoder: Decoder, bits: int) -> None:
    levels = levels_for(decoder, bits)
    table = level_table(levels, bits=bits, dtype=torch.bfloat16, decoder=decoder)
    zero, steps = (1 << (bits - 1), 1 << (bits - 1)) if decoder == "uniform" else (64, 63)
    words = planes_of_two_lanes(bits, seed=10 + bits)
    table_registers = [] if decoder == "uniform" else [r for r in registers(table.words) for _ in range(4)]
    tiles = integer_tile_count(bits, decoder)
    per_call = ptx.words_per_call(bits)
    codes = torch.stack([codes_of_lane(words, lane, bits) for lane in range(2)], dim=-1)
    for first in range(0, len(words), per_call):
        results = run_block(ptx.byte_asm(bits, decoder), words[first : first + per_call] + table_registers, tiles)
        # The four bytes of one register, lanes 0 and 1 of plane `first`: at 4 bits planes follow each other in a row.
        columns = torch.arange(4) + (32 * first if bits == 4 else 0)
        for tile in range(tiles):
            k = k_of_column.fn(columns, tile, bits, decoder)
            for i in range(4):
                byte = torch.from_numpy(((results[tile] >> np.uint32(8 * i)) & np.uint32(255)).astype(np.int64))
                expected = levels[codes[:, int(k[i]) // 16, int(k[i]) % 16]].double()
                torch.testing.assert_close((byte.double() - zero) / steps, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("decoder", ["grid7", "uniform", "table"])
def test_columns_of_the_integer_path_cover_every_input_once(bits: int, decoder: str) -> None:
    blocks = 3
    columns = torch.arange(blocks * integer_columns_per_block(bits, decoder))
    tiles = range(integer_tile_count(bits, decoder))

    covered = torch.cat([k_of_column.fn(columns, tile, bits, decoder) for tile in tiles])

    assert sorted(covered.tolist()) == list(range(blocks * k_block(bits)))


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_layout_constants_are_those_of_the_packed_format(bits: int) -> None:
    expected = packed_shape(1, K_BLOCK[bits], bits)

    assert k_block(bits) == K_BLOCK[bits]
    assert (1, 1, plane_count(bits), 16) == expected
    assert position_count(bits) * 16 == K_BLOCK[bits]


def test_a_block_with_an_unknown_instruction_or_register_is_refused() -> None:
    with pytest.raises(EmulationError, match=r"'sad\.u32' is not emulated"):
        run_block("{\nsad.u32 $0, $1, 4, 4;\n}", [np.zeros(1, np.uint32)], 1)
    with pytest.raises(EmulationError, match=r"\$2, which was never written"):
        run_block("{\nadd.u32 $0, $1, $2;\n}", [np.zeros(1, np.uint32)], 1)


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize(("kind", "decoder"), [("uniform", "uniform"), ("grid7", "grid7"), ("table16", "table16")])
def test_levels_get_the_fastest_decoder_that_takes_them(kind: str, decoder: str, bits: int) -> None:
    table = level_table(levels_for(kind, bits), bits=bits, dtype=torch.bfloat16)

    assert table.decoder == decoder
    assert (table.integer_levels is None) == (decoder == "table16")
