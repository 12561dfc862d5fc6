"""Randomly initialised models of a few thousand weights as Hugging Face directories, with a byte-level tokenizer."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

END_OF_TEXT = 256
END_OF_TEXT_NAME = "<|eos|>"
CONTEXT = 1024


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and one for the end of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)} | {END_OF_TEXT_NAME: END_OF_TEXT}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT_NAME,
        eos_token=END_OF_TEXT_NAME,
        model_max_length=CONTEXT,
    )


def bos_tokenizer() -> PreTrainedTokenizerFast:
    """The same, but encoding a text puts the end-of-text token first, as many models' tokenizers do."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT_NAME} $A", special_tokens=[(END_OF_TEXT_NAME, END_OF_TEXT)]
    )
    return tokenizer


def save(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_tiny_llama(folder: Path, *, hidden: int = 64, layers: int = 1, tied: bool = True, seed: int = 0) -> Path:
    """Seven linear layers per decoder layer; weights large enough that the next token is not a toss-up."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        bos_token_id=END_OF_TEXT,
        eos_token_id=END_OF_TEXT,
    )
    return save(LlamaForCausalLM(config), folder)


def save_tiny_gpt2(folder: Path) -> Path:
    """No nn.Linear but the head: its layers are Conv1D."""
    config = GPT2Config(vocab_size=257, n_embd=16, n_layer=1, n_head=2, n_positions=CONTEXT)
    return save(GPT2LMHeadModel(config), folder)


def save_tiny_mixtral(folder: Path) -> Path:
    """Its experts are fused into parameters of three dimensions, which no linear layer holds."""
    config = MixtralConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        max_position_embeddings=CONTEXT,
    )
    return save(MixtralForCausalLM(config), folder)
