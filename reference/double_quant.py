"""Block scales stored in 8 bits: double quantization (QLoRA, arXiv 2305.14314, section 3), as bitsandbytes stores it.

The mean of all scales is taken off, the rest is cut into runs of 256 scales, and every run is stored as 8-bit codes of
the dynamic map times the run's largest magnitude: 8 + 32/256 bits per scale and 32 bits for the mean, so 0.127 instead
of 0.5 bits per weight at block 64. Codes and numbers equal those of bitsandbytes 0.50.2 on a CPU bit for bit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

RUN = 256
# Before it looks for the nearest level, bitsandbytes' CPU code moves a number of [-1, 1] to one of 65536 even steps.
STEPS = 65535


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DoubleQuantized:
    """Scales in 8 bits each.

    Attributes:
        scale_codes_NG: uint8, codes of the dynamic map.
        run_absmax: float32, largest magnitude of every run.
        mean: float32, one number: the mean of all scales.
    """

    scale_codes_NG: Tensor
    run_absmax: Tensor
    mean: Tensor

    def expand(self) -> Tensor:
        """The scales (float32, N×G): map[code] · magnitude of its run + mean."""
        levels = dynamic_map().to(self.run_absmax.device)
        magnitude = self.run_absmax.repeat_interleave(RUN)[: self.scale_codes_NG.numel()]
        values = levels[self.scale_codes_NG.flatten().int()] * magnitude + self.mean
        return values.view(self.scale_codes_NG.shape)

    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor by name."""
        return {"scale_codes_NG": self.scale_codes_NG, "run_absmax": self.run_absmax, "mean": self.mean}

    def to(self, device: torch.device | str) -> "DoubleQuantized":
        """The same scales on another device."""
        return DoubleQuantized(**{name: tensor.to(device) for name, tensor in self.tensors().items()})


def dynamic_map() -> Tensor:
    """The 256 sorted levels of the signed 8-bit dynamic data type (Dettmers, arXiv 1511.04561, as bitsandbytes has it).

    A magnitude has a decimal exponent e = -6…0 and 2^(e+6) even cells of [0.1, 1], taken at their centres; the more
    leading zeros, the fewer cells. Zero and one complete the 2 · 127 levels. float32.
    """
    magnitudes = []
    for exponent in range(-6, 1):
        edges = torch.linspace(0.1, 1.0, 2 ** (exponent + 6) + 1, dtype=torch.float32)
        magnitudes.append(10.0**exponent * ((edges[1:] + edges[:-1]) / 2))
    positive = torch.cat(magnitudes)
    return torch.cat([-positive, torch.tensor([0.0, 1.0]), positive]).sort().values


@torch.no_grad()
def double_quantize(scale_NG: Tensor) -> DoubleQuantized:
    """Scales (N×G, any float dtype) in 8 bits each; runs go along the flattened scales, the last may be short."""
    scales = scale_NG.to(torch.float32).flatten()
    mean = scales.mean()
    padding = -scales.numel() % RUN
    centred = torch.nn.functional.pad(scales - mean, (0, padding)).view(-1, RUN)
    run_absmax = centred.abs().amax(dim=1)
    # A run of equal scales has magnitude 0 and quotient NaN, for which bitsandbytes stores code 0.
    quotient = (centred * run_absmax.reciprocal().unsqueeze(1)).nan_to_num(nan=-1.0).clamp_(-1.0, 1.0)
    step = ((quotient + 1.0) * (STEPS / 2) + 0.5).floor()
    levels = dynamic_map().to(scales.device)
    stepped = (step.to(torch.float64) / STEPS * 2.0 - 1.0).to(torch.float32)
    codes = torch.bucketize(stepped, (levels[1:] + levels[:-1]) / 2, out_int32=True).to(torch.uint8)
    return DoubleQuantized(
        scale_codes_NG=codes.flatten()[: scales.numel()].view(scale_NG.shape),
        run_absmax=run_absmax,
        mean=mean.view(1),
    )
