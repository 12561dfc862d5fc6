"""What quantizing on load leaves as it is, it names."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig

import lords_bench.integrations.hf_quantizer  # noqa: F401  (teaches transformers the format)
from lords_bench.integrations.hf_config import LordsConfig
from lords_bench.integrations.hf_model import quiet_transformers


def test_experts_that_stay_unquantized_are_named(tmp_path: Path) -> None:
    config = MixtralConfig(
        vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    torch.manual_seed(0)
    with quiet_transformers():
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)

        with pytest.warns(UserWarning, match=r"other modules with weights stay as they are: .*experts \("):
            AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=LordsConfig(bits=4, block=32))
