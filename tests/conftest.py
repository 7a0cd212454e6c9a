"""Tiny random models that every test can afford; no test reaches for a model hub."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis
import pytest
import torch
import transformers
from transformers import AutoTokenizer

from autointerp.subject import Subject
from autointerp.subject.embedded import embedded_model_folder

torch.set_num_threads(1)
# Right does not depend on how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

FAMILIES = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")


def tiny_model(family: str, *, vocabulary: int = 64, n_blocks: int = 3, width: int = 16) -> Any:
    """A random causal language model with biases and norms that are not trivial."""
    common = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": n_blocks,
        "num_attention_heads": 4,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
        # Scores and output_attentions are compared by value: only eager attention gives them.
        "attn_implementation": "eager",
    }
    grouped = common | {"num_key_value_heads": 2, "head_dim": width // 4}
    # Windows so short that texts of the tests reach past them; both kinds of attention.
    sliding = {
        "sliding_window": 3,
        "layer_types": ["sliding_attention", *["full_attention"] * (n_blocks - 1)],
        "query_pre_attn_scalar": width // 2,
    }
    config = {
        "gpt2": lambda: transformers.GPT2Config(
            vocab_size=vocabulary,
            n_embd=width,
            n_layer=n_blocks,
            n_head=4,
            n_positions=256,
            bos_token_id=0,
            eos_token_id=0,
            attn_implementation="eager",
        ),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(
            **common,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "partial_rotary_factor": 0.5,
            },
        ),
        "llama": lambda: transformers.LlamaConfig(**grouped),
        "mistral": lambda: transformers.MistralConfig(**grouped, sliding_window=3),
        "qwen2": lambda: transformers.Qwen2Config(
            **{k: v for k, v in grouped.items() if k != "head_dim"}
        ),
        "qwen3": lambda: transformers.Qwen3Config(**grouped),
        "gemma2": lambda: transformers.Gemma2Config(**grouped, **sliding),
        "gemma3_text": lambda: transformers.Gemma3TextConfig(**grouped, **sliding),
    }[family]()
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_subject() -> Callable[..., Subject]:
    """family → a subject without a tokenizer, for tests that give token ids."""

    def make(family: str, **sizes: int) -> Subject:
        model = tiny_model(family, **sizes)
        name = f"tiny {family}"
        return Subject(name, model, None, torch.device("cpu"), f"{name} {sorted(sizes.items())}")

    return make


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The embedded model's tokenizer."""
    return AutoTokenizer.from_pretrained(embedded_model_folder())


@pytest.fixture(scope="session")
def tiny_folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two blocks and width 32, saved with the embedded model's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny_llama")
    tiny_model("llama", vocabulary=len(tokenizer), n_blocks=2, width=32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
