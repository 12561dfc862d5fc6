"""The suites of costs on a tiny model on the CPU: a record for every layer and failure, and a run that goes on."""

from pathlib import Path

import pytest
import torch

from cost_builders import make_cost_run
from lords_bench.cli import main
from lords_bench.errors import UsageError
from lords_bench.quant import QuantSpec
from lords_bench.records.cost import CostRecord, CostRun
from lords_bench.records.status import Status
from lords_bench.records.store import read_nouns
from lords_bench.reference.methods import quantize
from lords_bench.suites.cost import step as step_cost
from lords_bench.suites.cost.cases import LLAMA_1B, LLAMA_3_8B, synthetic_weight
from lords_bench.suites.cost.ptq import PtqJob, run_ptq
from lords_bench.suites.cost.step import METHODS, Policy, StepJob, Trainee, run_step, wrong_with
from lords_bench.timing.cpu import CpuDevice

CPU = torch.device("cpu")
TINY = LLAMA_3_8B.smaller(32, 1)
POLICY = Policy(min_rounds=6, budget_s=0.1, warm_up_s=0.01, max_rounds=6, energy=False)


def job(**specs: QuantSpec) -> PtqJob:
    return PtqJob(shape=TINY, specs=specs or {"nf4": QuantSpec(method="nf4")}, device=CPU, dtype=torch.bfloat16)


def run_of(planned: int = 7) -> CostRun:
    return make_cost_run(planned=planned, scale=32)


def test_llama_has_224_linear_layers_of_seven_billion_weights() -> None:
    layers = LLAMA_3_8B.linears()

    assert len(layers) == 224
    assert sum(n * k for _, n, k in layers) == 6_979_321_856
    assert {(n, k) for _, n, k in layers} == {(4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336)}


@pytest.mark.parametrize(
    ("scale", "blocks", "message"), [(33, 1, "--scale 33"), (0, 1, "--scale 0"), (1, 33, "has 32 blocks"), (1, 0, "0")]
)
def test_a_size_that_leaves_nothing_is_refused(scale: int, blocks: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LLAMA_3_8B.smaller(scale, blocks)


def test_synthetic_weights_repeat_by_seed_and_have_outlier_columns() -> None:
    first, again, other = (synthetic_weight(64, 1000, seed=seed, device=CPU, dtype=torch.float32) for seed in (1, 1, 2))

    columns = first.square().mean(0).sqrt()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert int((columns > 3.5 * columns.median()).sum()) == 2  # 0.2 % of 1000 columns


def test_every_layer_has_a_record_with_its_error_and_bits() -> None:
    found: list[CostRecord] = []

    left_out = run_ptq(job(), run_of(), done=(), append=found.append)

    assert left_out == 0
    assert [record.case for record in found] == [f"nf4/{name}" for name, _, _ in TINY.linears()]
    assert all(record.status is Status.OK and record.seconds for record in found)
    weight_NK = synthetic_weight(128, 128, seed=0, device=CPU, dtype=torch.bfloat16)
    lost_NK = quantize(weight_NK, QuantSpec(method="nf4")).dequantize().double() - weight_NK.double()
    expected = float(lost_NK.square().sum() / weight_NK.double().square().sum())
    assert dict(found[0].facts)["relative_squared_error"] == pytest.approx(expected, rel=1e-12)
    assert dict(found[0].facts)["bits_per_weight"] == pytest.approx(4.25)


def test_a_layer_that_fails_is_a_record_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(weight_NK: torch.Tensor, spec: QuantSpec) -> object:
        if weight_NK.shape[0] > weight_NK.shape[1]:
            raise MemoryError("no room")
        return quantize(weight_NK, spec)

    monkeypatch.setattr("lords_bench.suites.cost.ptq.quantize", refuse)
    found: list[CostRecord] = []

    run_ptq(job(), run_of(), done=(), append=found.append)

    failed = [record for record in found if record.status is not Status.OK]
    assert {record.reason for record in failed} == {"MemoryError: no room"}
    assert 0 < len(failed) < len(found) == 7


def test_no_layer_is_begun_after_its_time_and_done_ones_are_left_out() -> None:
    found: list[CostRecord] = []
    clock = iter(range(100))

    left_out = run_ptq(
        job(), run_of(), done=("nf4/model.layers.0.self_attn.q_proj",), append=found.append, seconds=3.0,
        now_s=lambda: next(clock),
    )  # fmt: skip

    assert [record.case.rpartition(".")[2] for record in found] == ["k_proj", "v_proj"]
    assert left_out == 4


# peft asks transformers by an old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_step_of_both_methods_is_timed_on_equally_many_trained_values() -> None:
    shape = LLAMA_1B.smaller(32, 1)

    records = run_step(
        StepJob(shape=shape, tokens=8, block=64, device=CPU), run_of(2), timer=CpuDevice(), policy=POLICY
    )

    assert [(record.method, record.status, record.reason) for record in records] == [
        (method, Status.OK, None) for method in METHODS
    ]
    assert dict(records[0].facts)["trained_values"] == dict(records[1].facts)["trained_values"]
    assert all(record.measurement is not None and record.measurement.regime == "eager" for record in records)
    assert records[0].noise_floor == records[1].noise_floor is not None


def test_a_method_that_cannot_be_built_is_a_record_and_the_other_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_job: StepJob) -> Trainee:
        raise UsageError("bitsandbytes cannot be used: no module")

    monkeypatch.setattr(step_cost, "BUILDERS", {**step_cost.BUILDERS, "qlora-peft": absent})

    records = run_step(
        StepJob(shape=LLAMA_1B.smaller(32, 1), tokens=8, block=64, device=CPU), run_of(2), timer=CpuDevice(),
        policy=POLICY,
    )  # fmt: skip

    assert [record.status for record in records] == [Status.OK, Status.UNSUPPORTED]
    assert records[1].reason == "bitsandbytes cannot be used: no module"


class Broken(torch.nn.Module):
    """A model of one trained value whose gradient is what a test says."""

    def __init__(self, gradient: float | None) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.ones(1))
        self.gradient = gradient

    def step(self) -> torch.Tensor:
        self.value.grad = None if self.gradient is None else torch.tensor([self.gradient])
        return torch.tensor(1.0)


@pytest.mark.parametrize(
    ("gradient", "reason"),
    [
        (1.0, None),
        (None, "1 of 1 trained tensors have no gradient, the first is value"),
        (float("inf"), "the gradient of value is not finite"),
        (0.0, "every gradient is 0"),
    ],
)
def test_a_step_that_trains_nothing_is_not_timed(gradient: float | None, reason: str | None) -> None:
    model = Broken(gradient)

    assert wrong_with(Trainee(model=model, step=model.step, trained=1, held_bytes=None)) == reason


def test_the_commands_write_records_and_a_page_and_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "ptq", "--scale", "32", "--layers", "1", "--methods", "nf4", "--out", str(tmp_path)]

    codes = [main([*command, "--name", "cpu"]) for _ in range(2)]

    records = read_nouns(tmp_path / "records" / "cpu" / "cost.jsonl", CostRecord).records
    assert codes == [0, 0]
    assert len(records) == 7
    assert "nf4: 7 layers in" in (tmp_path / "cpu" / "cost.md").read_text("utf-8")
    assert "cost.md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ptq", "--methods", "gptq"], "need calibration"),
        (["ptq", "--name", "../elsewhere"], "--name '../elsewhere' cannot name a folder"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["bench", *arguments, "--out", str(tmp_path)]) == 2

    assert message in capsys.readouterr().err
