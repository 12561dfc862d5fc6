"""The bytes that a specification must store are those that the reference stores, for every choice that costs bytes."""

import pytest
import torch

from lords_bench.quant import PRESETS, Codebook, QuantSpec
from lords_bench.records.plausible import stored_bytes
from lords_bench.reference.methods import quantize

OWN = Codebook(name="own", levels=(-1.0, -0.3, 0.0, 0.2, 1.0))
SPECS = (
    *(
        QuantSpec(method=name, bits=bits, block=32)
        for name, preset in PRESETS.items()
        for bits in ((preset.bits,) if preset.bits else (4, 3, 2))
    ),
    QuantSpec(method="nf4", block=32, double_quant=True),
    QuantSpec(method="nf4", block=32, scale_dtype="float32"),
    QuantSpec(method="lords", bits=3, block=32, scale_dtype="bfloat16"),
    QuantSpec(method="lords", bits=4, rank=3),
    QuantSpec(method="block-opt", bits=4, block=32, levels="learned"),
    QuantSpec(method="block-opt", bits=3, block=32, levels=OWN),
    QuantSpec(method="block-opt", bits=4, block=32, levels="fp4"),
)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.method}-{spec.bits}-{spec.levels}"[:40])
@pytest.mark.parametrize("shape", [(24, 96), (40, 320)])
def test_a_specification_needs_the_bytes_that_its_weight_stores(spec: QuantSpec, shape: tuple[int, int]) -> None:
    n, k = shape
    weight_NK = torch.randn(n, k, generator=torch.Generator().manual_seed(0))

    stored = quantize(weight_NK, spec, hessian_KK=torch.eye(k) if spec.needs_hessian else None)

    assert stored_bytes(spec, n, k) == sum(tensor.nbytes for tensor in stored.tensors().values())
