"""Packing loses nothing, whatever the codes and however ragged the row."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from lords_bench.reference.packing import pack_codes, pack_stream, packed_shape, unpack_codes, unpack_stream


def random_codes(shape: tuple[int, ...], bits: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 1 << bits, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@given(n=st.integers(1, 5), k=st.integers(1, 600), bits=st.sampled_from([4, 3, 2]), seed=st.integers(0, 2**31))
def test_unpacking_is_the_exact_inverse_of_packing(n: int, k: int, bits: int, seed: int) -> None:
    codes_NK = random_codes((n, k), bits, seed)

    packed = pack_codes(codes_NK, bits)

    assert packed.shape == packed_shape(n, k, bits)
    assert torch.equal(unpack_codes(packed, bits, k), codes_NK)


@given(count=st.integers(0, 70), bits=st.sampled_from([4, 3, 2]), seed=st.integers(0, 2**31))
def test_a_stream_unpacks_to_its_codes_and_wastes_less_than_a_byte(count: int, bits: int, seed: int) -> None:
    codes = random_codes((count,), bits, seed)

    packed = pack_stream(codes, bits)

    assert torch.equal(unpack_stream(packed, bits, count), codes)
    assert packed.numel() == -(-count * bits // 8)
