"""What one step of fine-tuning costs: LoRDS against QLoRA as peft and bitsandbytes run it, on a model of given shapes.

A step is forward, backward and AdamW of one sequence under bfloat16 autocast, adapters in float32, no checkpointing.
Both train the same number of values: the adapter of a layer has the rank of its low-rank scale. The optimiser's rate
is 0, so that every step is the same work on the same numbers, as the protocol asks. Time is the wall clock of a step
from Python, paired round by round; memory is read in one more step. Each model has its buffers once, so what stays with
their layout is not seen, and no difference below 2 % is called one.
"""

import gc
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from lords_bench.errors import LordsBenchError, UsageError, reason_of
from lords_bench.options import BIT_COUNT, COUNT, SEED, WINDOW
from lords_bench.quant import QuantSpec, parity_rank
from lords_bench.records.cost import CostRecord, CostRun
from lords_bench.records.status import Status, created_now
from lords_bench.suites.cost.cases import ModelShape
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.comparison import Comparison, Policy
from lords_bench.timing.device import Device
from lords_bench.timing.failure import failure_of
from lords_bench.timing.protocol import compare

LORDS = "lords"
QLORA = "qlora-peft"
METHODS = (LORDS, QLORA)
# A step takes longer than all rounds of a quick policy may: so many rounds count more than the time.
POLICY = Policy(min_rounds=12, half_width=0.01, budget_s=30.0, warm_up_s=0.5, max_rounds=60, energy=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepJob:
    """What is trained for one step, and where.

    Attributes:
        shape: of the model.
        tokens: of the sequence.
        bits: of the codes; QLoRA has 4.
        block: of QLoRA's scales; LoRDS has the rank that stores as much.
        device: of everything.
        seed: of weights and tokens.

    Raises:
        UsageError: a number that no step has.
    """

    shape: ModelShape
    tokens: int
    block: int
    device: torch.device
    bits: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        WINDOW.check("tokens", self.tokens)
        COUNT.check("block", self.block)
        BIT_COUNT.check("bits", self.bits)
        SEED.check("seed", self.seed)


@dataclass(kw_only=True)
class Trainee:
    """A model ready for steps.

    Attributes:
        step: does one and returns the loss, without waiting for the device.
        trained: values that are trained.
        held_bytes: device memory of model and optimiser; None = not told.
        facts: what else a record says.
    """

    model: nn.Module
    step: Callable[[], torch.Tensor]
    trained: int
    held_bytes: int | None
    facts: tuple[tuple[str, str | int | float | bool | None], ...] = ()


def run_step(
    job: StepJob, run: CostRun, *, timer: Device, policy: Policy = POLICY, methods: tuple[str, ...] = METHODS
) -> tuple[CostRecord, ...]:
    """A record of every method; what cannot be built, or runs out of memory, has one with its reason.

    Args:
        job: what is trained.
        run: what the records share.
        timer: the device that the job computes on.
        policy: how long to look.
        methods: of `METHODS`.
    """
    trainees: dict[str, Trainee] = {}
    failures: dict[str, tuple[Status, str]] = {}
    for method in methods:
        try:
            trainees[method] = BUILDERS[method](job)
            trainees[method].step()
        except LordsBenchError as error:
            failures[method] = (Status.UNSUPPORTED, str(error))
        # Whatever a library raises while it is set up is the outcome of its method, and the other goes on.
        except Exception as raised:  # noqa: BLE001
            failure = failure_of(raised)
            failures[method] = (failure.status, f"while it was built: {failure.reason}")
        if method in failures:
            trainees.pop(method, None)
    comparison = None
    if trainees:
        candidates = [
            Candidate(name=name, launch=_launch(trainee), check=partial(wrong_with, trainee))
            for name, trainee in trainees.items()
        ]
        baseline = QLORA if QLORA in trainees else candidates[0].name
        comparison = compare(timer, candidates, baseline=baseline, regime="eager", policy=policy)
    return tuple(
        _failed(run, method, *failures[method])
        if method in failures
        else _record(run, method, trainees[method], comparison, job)
        for method in methods
    )


def wrong_with(trainee: Trainee) -> str | None:
    """Why a step does not train the model; None if it does: the loss and every gradient are finite, and one is not 0.

    A model whose B starts at 0 has no gradient in A: that is as it should be.
    """
    loss = trainee.step()
    if not bool(torch.isfinite(loss)):
        return f"the loss is {float(loss)}"
    grads = {name: p.grad for name, p in trainee.model.named_parameters() if p.requires_grad}
    without = [name for name, grad in grads.items() if grad is None]
    if without:
        return f"{len(without)} of {len(grads)} trained tensors have no gradient, the first is {without[0]}"
    infinite = [name for name, grad in grads.items() if grad is not None and not bool(torch.isfinite(grad).all())]
    if infinite:
        return f"the gradient of {infinite[0]} is not finite"
    if not any(grad is not None and bool(grad.any()) for grad in grads.values()):
        return "every gradient is 0"
    return None


def lords_trainee(job: StepJob) -> Trainee:
    """LoRDS: codes frozen, B and A trained."""
    from lords_bench.training import prepare_peft

    def change(model: nn.Module) -> nn.Module:
        prepare_peft(model, "lords", QuantSpec(method="lords", bits=job.bits, block=job.block))
        return model

    return _trainee(job, change)


def qlora_trainee(job: StepJob) -> Trainee:
    """QLoRA: peft's LoRA on bitsandbytes' NF4 with double quantization.

    Without `prepare_model_for_kbit_training`, which would turn embeddings, head and norms into float32.

    Raises:
        UsageError: no peft or no bitsandbytes, or a number of bits that it has not.
    """
    if job.bits != 4:
        raise UsageError(f"bitsandbytes has 4 bits, not {job.bits}")
    library, peft = _import("bitsandbytes"), _import("peft")

    def change(model: nn.Module) -> nn.Module:
        ranks: dict[str, int] = {}
        for name, linear in _linears(model):
            ranks[name.rpartition(".")[2]] = parity_rank(linear.out_features, linear.in_features, job.block)
            model.set_submodule(name, _four_bits(library, linear, job))
        config = peft.LoraConfig(
            r=max(ranks.values()), lora_alpha=2 * max(ranks.values()), lora_dropout=0.0, target_modules=sorted(ranks),
            rank_pattern=ranks, alpha_pattern={name: 2 * rank for name, rank in ranks.items()}, task_type="CAUSAL_LM",
        )  # fmt: skip
        adapted: nn.Module = peft.get_peft_model(model, config)
        return adapted

    trainee = _trainee(job, change)
    trainee.facts = (("bitsandbytes", str(library.__version__)), ("peft", str(peft.__version__)))
    return trainee


BUILDERS: dict[str, Callable[[StepJob], Trainee]] = {LORDS: lords_trainee, QLORA: qlora_trainee}


def _trainee(job: StepJob, change: Callable[[nn.Module], nn.Module]) -> Trainee:
    on_gpu = job.device.type == "cuda"
    gc.collect()
    before = torch.cuda.memory_allocated() if on_gpu else None
    model = change(_model(job)).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0)
    generator = torch.Generator().manual_seed(job.seed)
    tokens_1T = torch.randint(0, job.shape.vocabulary, (1, job.tokens), generator=generator).to(job.device)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(job.device.type, torch.bfloat16):
            loss: torch.Tensor = model(input_ids=tokens_1T, labels=tokens_1T, use_cache=False).loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    step()
    optimizer.zero_grad(set_to_none=True)
    gc.collect()
    held = torch.cuda.memory_allocated() - before if before is not None else None
    return Trainee(model=model, step=step, trained=sum(p.numel() for p in trained), held_bytes=held)


def _model(job: StepJob) -> nn.Module:
    """A randomly initialised Llama in bfloat16 on the device; its config is that of the shape."""
    import transformers

    shape = job.shape
    transformers.set_seed(job.seed)
    config = transformers.LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.blocks, num_attention_heads=shape.heads, num_key_value_heads=shape.key_heads,
        head_dim=shape.head, max_position_embeddings=max(2048, job.tokens), tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device(job.device):
        model: nn.Module = transformers.LlamaForCausalLM(config)
    return model.to(torch.bfloat16)


def _linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Every linear layer of the blocks; the head stays dense, as in both methods' own code."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [(name, module) for name, module in found if name.startswith("model.layers.")]


def _four_bits(library: Any, linear: nn.Linear, job: StepJob) -> nn.Module:
    layer: nn.Module = library.nn.Linear4bit(
        linear.in_features, linear.out_features, bias=False, compute_dtype=torch.bfloat16, compress_statistics=True,
        quant_type="nf4", device="meta",
    )  # fmt: skip
    layer.weight = library.nn.Params4bit(
        linear.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", blocksize=job.block,
        module=layer,
    )  # fmt: skip
    return layer.to(job.device)


def _launch(trainee: Trainee) -> Callable[[int], object]:
    return lambda _slot: trainee.step()


def _record(run: CostRun, method: str, trainee: Trainee, comparison: Comparison | None, job: StepJob) -> CostRecord:
    assert comparison is not None
    outcome = comparison.outcome(method)
    if outcome.measurement is None:
        return _failed(run, method, outcome.status, outcome.reason or "no measurement")
    peak = _peak_bytes(trainee, on_gpu=job.device.type == "cuda")
    facts = {
        "loss": float(trainee.step()),
        "tokens": job.tokens,
        "trained_values": trainee.trained,
        **dict(trainee.facts),
    }
    return CostRecord(
        run=run,
        suite="step",
        case=method,
        method=method,
        status=Status.OK,
        seconds=outcome.measurement.median_ns / 1e9,
        measurement=outcome.measurement,
        noise_floor=comparison.noise_floor,
        held_bytes=trainee.held_bytes,
        peak_bytes=peak,
        facts=tuple(sorted(facts.items())),
        created_utc=created_now(),
    )


def _peak_bytes(trainee: Trainee, *, on_gpu: bool) -> int | None:
    """Most device memory of one step above what is held between steps; a CPU does not tell it of so short a stretch."""
    if not on_gpu:
        return None
    for parameter in trainee.model.parameters():
        parameter.grad = None
    gc.collect()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    trainee.step()
    return torch.cuda.max_memory_allocated() - before


def _failed(run: CostRun, method: str, status: Status, reason: str) -> CostRecord:
    return CostRecord(
        run=run, suite="step", case=method, method=method, status=status, reason=reason,
        created_utc=created_now(),
    )  # fmt: skip


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UsageError(f"{package} cannot be used: {reason_of(error)}") from None
