"""`GemmShape`: one problem size, in the letters used everywhere (M tokens, N out features, K in features)."""

from dataclasses import dataclass

from lords_bench.errors import SpecError


@dataclass(frozen=True, kw_only=True, slots=True)
class GemmShape:
    """Size of y_MN = x_MK @ W_NK^T; all three are at least 1."""

    m: int
    n: int
    k: int

    def __post_init__(self) -> None:
        for name in ("m", "n", "k"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpecError(f"GemmShape.{name} is {value!r}; it must be an integer of at least 1")

    @property
    def flops(self) -> int:
        """Multiply-adds counted as two operations: 2·M·N·K."""
        return 2 * self.m * self.n * self.k
