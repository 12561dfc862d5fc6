"""Rank of what fine-tuning changed.

    python -m lords_bench.suites.studies.update_rank [STEPS [LEARNING_RATE [THREADS]]]

Fine-tunes the shipped model on English prose (`pydoc_data.topics`), by LoRDS and by QLoRA at the same number of trained
values, and prints of every layer's update W' - W: its numerical rank, its effective rank and the number of directions
that hold 90 % of its energy, next to the rank of the adapter and of a full matrix.
"""

import copy
import sys
from pydoc_data.topics import topics

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lords_bench.quant import QuantSpec
from lords_bench.reference.update_rank import update_rank
from lords_bench.suites.testbed import TESTBED_MODEL
from lords_bench.training import prepare_peft, quantized_layers, trainable_parameters
from lords_bench.training.frozen_linear import LoraLinear
from lords_bench.training.lords_linear import LordsLinear
from lords_bench.training.prepare import PeftMethod

SEQUENCES, SEQUENCE_TOKENS = 4, 128
SPECS: dict[PeftMethod, QuantSpec] = {
    "lords": QuantSpec(method="lords", bits=4),
    "qlora": QuantSpec(method="nf4", scale_dtype="float32"),
}


def dense_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weight of every layer as it computes now, its adapter unrounded."""
    weights = {}
    for name, layer in quantized_layers(model).items():
        if isinstance(layer, LordsLinear):
            codes_NK = layer.export().codes().long()
            scale_NK = layer.scale_b.double() @ layer.scale_a.double()
            weights[name] = (layer.levels.double()[codes_NK] * scale_NK).detach()
        elif isinstance(layer, LoraLinear):
            weights[name] = (layer.scaling * layer.up.double() @ layer.down.double()).detach()
    return weights


def main(steps: int = 40, learning_rate: float = 1e-3, threads: int = 1) -> None:
    """Train both and print."""
    torch.set_num_threads(threads)
    plain = AutoModelForCausalLM.from_pretrained(TESTBED_MODEL, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(TESTBED_MODEL)
    text = "\n".join(topics[name] for name in sorted(topics))
    tokens = torch.tensor(tokenizer(text)["input_ids"])
    size = SEQUENCES * SEQUENCE_TOKENS
    for method, spec in SPECS.items():
        model = copy.deepcopy(plain)
        prepare_peft(model, method, spec)
        before = dense_weights(model)
        optimizer = torch.optim.Adam(trainable_parameters(model).values(), lr=learning_rate)
        for step in range(steps):
            batch_ST = tokens[step * size : (step + 1) * size].view(SEQUENCES, SEQUENCE_TOKENS)
            loss = model(input_ids=batch_ST, labels=batch_ST).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step in (0, steps - 1):
                sys.stdout.write(f"{method} step {step + 1}: {loss.item():.3f} nats per token\n")
        for name, weight_NK in dense_weights(model).items():
            found = update_rank(weight_NK - before[name])
            sys.stdout.write(
                f"{method} {name}: adapter rank {model.get_submodule(name).rank}, numerical {found.numerical} of "
                f"{found.full}, effective {found.effective:.0f}, 90 % of the energy in {found.energy_rank_90}\n"
            )


if __name__ == "__main__":
    steps, rate, threads = [*sys.argv[1:], *("40", "1e-3", "1")[len(sys.argv) - 1 :]]
    main(int(steps), float(rate), int(threads))
