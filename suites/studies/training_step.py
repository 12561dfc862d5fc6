"""Time of a training step of the shipped model: plain, QAT and PEFT, interleaved.

    python -m lords_bench.suites.studies.training_step [TOKENS [ROUNDS [THREADS]]]

Prints the median milliseconds of forward and backward over the rounds, and the median of its ratio to the plain model's
step of the same round, in which every weight is trained. Every round runs each model once, in an order of its own.
"""

import copy
import random
import sys
from statistics import median
from time import perf_counter

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from lords_bench.quant import QuantSpec
from lords_bench.suites.testbed import TESTBED_MODEL
from lords_bench.training import prepare_peft, prepare_qat
from lords_bench.training.prepare import PeftMethod

SEQUENCE_TOKENS = 256
QAT_SPECS = {
    "qat lords 4": QuantSpec(method="lords", bits=4),
    "qat lords 2": QuantSpec(method="lords", bits=2),
    "qat block 4": QuantSpec(method="nf4"),
    "qat int 4": QuantSpec(method="int-rtn", bits=4),
}
PEFT_METHODS: tuple[PeftMethod, ...] = ("lords", "qlora")


def step_ms(model: PreTrainedModel, tokens_ST: torch.Tensor) -> float:
    """One forward and backward."""
    begin = perf_counter()
    model(input_ids=tokens_ST, labels=tokens_ST).loss.backward()
    elapsed_ms = (perf_counter() - begin) * 1e3
    model.zero_grad()
    return elapsed_ms


def main(tokens: int = 2048, rounds: int = 5, threads: int = 1) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_pretrained(TESTBED_MODEL, dtype=torch.float32)
    models = {"plain": plain}
    for name, spec in QAT_SPECS.items():
        models[name] = copy.deepcopy(plain)
        prepare_qat(models[name], spec)
    for method in PEFT_METHODS:
        name = f"peft {method}"
        models[name] = copy.deepcopy(plain)
        prepare_peft(models[name], method)
    tokens_ST = torch.randint(0, plain.config.vocab_size, (tokens // SEQUENCE_TOKENS, SEQUENCE_TOKENS))
    samples_ms: dict[str, list[float]] = {name: [] for name in models}
    generator = random.Random(0)
    for round_number in range(rounds + 1):
        for name in generator.sample(list(models), len(models)):
            elapsed_ms = step_ms(models[name], tokens_ST)
            if round_number > 0:  # the first warms up
                samples_ms[name].append(elapsed_ms)
    for name, samples in samples_ms.items():
        ratio = median(a / b for a, b in zip(samples, samples_ms["plain"], strict=True))
        sys.stdout.write(f"{name:12} {median(samples):8.0f} ms  {ratio:.2f} × plain\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
