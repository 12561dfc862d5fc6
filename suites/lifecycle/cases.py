"""What the lifecycle suite runs, as data: groups of training runs, and the budget that is the same for all of a stage.

A group is one method at one number of bits. It is run like this:

    start    the model the group trains, before the first step: post-training quantization, adapters at their start
    lr…      one run for every learning rate of the stage's grid, with the first seed
    seed…    the learning rate with the lowest loss on validation text again, with the other seeds

All groups of a stage see the same batches (seed by seed), as many steps and the same grid. The test text is scored in
every run and chooses nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from lords_bench.errors import UsageError
from lords_bench.options import COUNT, POSITIVE, SEED, WINDOW
from lords_bench.quant import QuantSpec

SUITE = "lifecycle"
BLOCK = 64
# Blocks whose storage is that of a low-rank scale of 1.5 times the rank at BLOCK: what a base of 4.13 bits and an
# adapter of 0.25 bits store together.
BLOCK_AT_EQUAL_BITS = 42

TrainingStage = Literal["qat", "peft"]
Adapter = Literal["lords", "qlora", "loftq", "qpissa"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """One method at one number of bits; `adapter` says how it is fine-tuned (None: QAT)."""

    stage: TrainingStage
    method: str
    spec: QuantSpec
    adapter: Adapter | None = None

    @property
    def bits(self) -> int:
        """Bits per code."""
        return self.spec.bits_per_code

    @property
    def group_id(self) -> str:
        """Such as `qat-lords-b3`."""
        return f"{self.stage}-{self.method}-b{self.bits}"

    @property
    def start_id(self) -> str:
        """Case id of the model before the first step."""
        return f"{self.group_id}-start"

    def search_id(self, learning_rate: float) -> str:
        """Case id of the run that tries a learning rate."""
        return f"{self.group_id}-lr{learning_rate:g}"

    def seed_id(self, seed: int) -> str:
        """Case id of the run that repeats the best learning rate with another seed."""
        return f"{self.group_id}-seed{seed}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What every group of a stage may spend.

    Attributes:
        steps: optimiser steps of a run.
        batch_windows: windows per step.
        learning_rates: the grid, ascending.
        seeds: seeds of the runs at the best rate; the first is also that of the search.

    Raises:
        UsageError: a number that no training has.
    """

    steps: int
    batch_windows: int
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        COUNT.check("steps", self.steps)
        COUNT.check("batch_windows", self.batch_windows)
        for rate in self.learning_rates:
            POSITIVE.check("learning_rates", rate)
        for seed in self.seeds:
            SEED.check("seeds", seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSize:
    """How many held-out passages are scored, of about `passage_characters` each, and the length of a window."""

    test_passages: int
    validation_passages: int
    passage_characters: int = 1400
    window_tokens: int = 512

    def __post_init__(self) -> None:
        for name in ("test_passages", "validation_passages", "passage_characters"):
            COUNT.check(name, getattr(self, name))
        WINDOW.check("window_tokens", self.window_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How every run trains: AdamW without weight decay, linear warm-up, then linear decay to 0.

    Attributes:
        warmup_share: share of the steps in which the learning rate rises.
        beta1: decay of AdamW's first moment.
        beta2: decay of its second moment.
        clip_norm: largest norm of the gradient.
    """

    warmup_share: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All of it."""

    groups: tuple[Group, ...]
    qat: Budget
    peft: Budget
    text: TextSize
    recipe: Recipe = Recipe()

    def budget(self, group: Group) -> Budget:
        """What the group may spend."""
        return self.qat if group.stage == "qat" else self.peft

    def case_ids_of(self, group: Group) -> tuple[str, ...]:
        """Every case of the group, in the order it is run."""
        budget = self.budget(group)
        return (
            group.start_id,
            *(group.search_id(rate) for rate in budget.learning_rates),
            *(group.seed_id(seed) for seed in budget.seeds[1:]),
        )

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Every case, the unquantized model first."""
        return (REFERENCE_ID, *(case_id for group in self.groups for case_id in self.case_ids_of(group)))

    @property
    def settings(self) -> dict[str, str | int | float]:
        """What must be equal for two records to be compared, by name."""
        found: dict[str, str | int | float] = {
            "test_passages": self.text.test_passages,
            "validation_passages": self.text.validation_passages,
            "passage_characters": self.text.passage_characters,
            "window_tokens": self.text.window_tokens,
            "warmup_share": self.recipe.warmup_share,
            "beta1": self.recipe.beta1,
            "beta2": self.recipe.beta2,
            "clip_norm": self.recipe.clip_norm,
        }
        for name, budget in (("qat", self.qat), ("peft", self.peft)):
            found[f"{name}_steps"] = budget.steps
            found[f"{name}_batch_windows"] = budget.batch_windows
            found[f"{name}_learning_rates"] = " ".join(f"{rate:g}" for rate in budget.learning_rates)
            found[f"{name}_seeds"] = " ".join(map(str, budget.seeds))
        return dict(sorted(found.items()))


REFERENCE_ID = "unquantized"


def _qat(bits: int) -> Iterator[Group]:
    specs = {
        "lords": QuantSpec(method="lords", bits=bits, block=BLOCK),
        "block": QuantSpec(method="block-opt", bits=bits, block=BLOCK),
        "int": QuantSpec(method="block-opt", bits=bits, block=BLOCK, levels="int"),
    }
    for method, spec in specs.items():
        yield Group(stage="qat", method=method, spec=spec)


def _peft(bits: int) -> Iterator[Group]:
    yield Group(stage="peft", method="lords", spec=QuantSpec(method="lords", bits=bits, block=BLOCK), adapter="lords")
    # As QLoRA has it: scales in 8 bits. LoftQ and QPiSSA get the same base, which stores the fewest bits.
    base = QuantSpec(method=f"nf{bits}", block=BLOCK, double_quant=True)
    adapters: tuple[Adapter, ...] = ("qlora", "loftq", "qpissa")
    for adapter in adapters:
        yield Group(stage="peft", method=adapter, spec=base, adapter=adapter)


_EQUAL_BITS = Group(
    stage="peft",
    method="lords-equal-bits",
    spec=QuantSpec(method="lords", bits=4, block=BLOCK_AT_EQUAL_BITS),
    adapter="lords",
)

QUICK = Plan(
    groups=tuple(group for group in (*_qat(3), *_peft(4)) if group.method in ("lords", "block", "qlora")),
    qat=Budget(steps=20, batch_windows=4, learning_rates=(3e-5, 1e-4), seeds=(0, 1)),
    peft=Budget(steps=20, batch_windows=4, learning_rates=(3e-3, 1e-2), seeds=(0, 1)),
    text=TextSize(test_passages=24, validation_passages=12),
)
FULL = Plan(
    groups=(*_qat(3), *_peft(4), *_qat(2), *_peft(2), *_qat(4), _EQUAL_BITS),
    qat=Budget(steps=60, batch_windows=4, learning_rates=(1e-5, 3e-5, 1e-4, 3e-4), seeds=(0, 1, 2)),
    peft=Budget(steps=60, batch_windows=4, learning_rates=(1e-3, 3e-3, 1e-2, 3e-2), seeds=(0, 1, 2)),
    text=TextSize(test_passages=32, validation_passages=16),
)
PLANS: MappingProxyType[str, Plan] = MappingProxyType({"quick": QUICK, "full": FULL})


def select(plan: Plan, *, methods: tuple[str, ...] | None, bits: tuple[int, ...] | None) -> Plan:
    """The plan's groups of these methods and bits; None selects all.

    Raises:
        UsageError: an unknown method, or no group of that method and bits.
    """
    known = sorted({group.method for group in plan.groups})
    for name in methods or ():
        if name not in known:
            raise UsageError(f"unknown method {name!r} in suite {SUITE!r}; known: {', '.join(known)}")
    groups = tuple(
        group
        for group in plan.groups
        if (methods is None or group.method in methods) and (bits is None or group.bits in bits)
    )
    if not groups:
        raise UsageError(f"suite {SUITE!r} has no group with bits {', '.join(map(str, bits or ()))}; see --list")
    return Plan(groups=groups, qat=plan.qat, peft=plan.peft, text=plan.text, recipe=plan.recipe)
