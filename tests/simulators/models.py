"""Tiny random models of every kind of attention that a simulator may meet."""

from typing import Any

import torch
import transformers

VOCABULARY = 97
WINDOW = 7
"""Of every sliding window here: shorter than the few-shot, the heads and the own tokens."""

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2, "head_dim": 8}
_ALTERNATING = {
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": WINDOW,
}
_EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}

SHARED = {
    "llama: grouped queries": lambda: transformers.LlamaConfig(**_GROUPED),
    "qwen2: biases": lambda: transformers.Qwen2Config(**_SIZES, num_key_value_heads=1),
    "qwen3: normed queries": lambda: transformers.Qwen3Config(**_GROUPED),
    "mistral: windows": lambda: transformers.MistralConfig(**_GROUPED, sliding_window=WINDOW),
    "gemma2: windows and capped scores": lambda: transformers.Gemma2Config(
        **_GROUPED,
        **_ALTERNATING,
        query_pre_attn_scalar=8,
        attn_logit_softcapping=0.5,
        final_logit_softcapping=2.0,
    ),
    "gemma3: windows, two rotary bases": lambda: transformers.Gemma3TextConfig(
        **_GROUPED, **_ALTERNATING, query_pre_attn_scalar=8
    ),
    "gpt-oss: windows and sinks": lambda: transformers.GptOssConfig(
        **_GROUPED, **_ALTERNATING, **_EXPERTS
    ),
    "gpt2: learned positions": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=4, n_head=4, n_positions=256
    ),
    "opt: learned positions with an offset": lambda: transformers.OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=256,
    ),
    "neox: partial rotary": lambda: transformers.GPTNeoXConfig(
        **_SIZES,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.5,
        },
    ),
    "phi3: joined projections": lambda: transformers.Phi3Config(**_SIZES, num_key_value_heads=2),
    "cohere2: layers without positions": lambda: transformers.Cohere2Config(
        **_GROUPED, **_ALTERNATING
    ),
    "olmo3: norms after": lambda: transformers.Olmo3Config(
        **{k: v for k, v in _GROUPED.items() if k != "head_dim"}, **_ALTERNATING
    ),
}
"""What the attention has that must be honoured → configuration."""

COPIED = {
    "bloom: ALiBi": lambda: transformers.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=16, n_layer=4, n_head=4
    ),
    "mpt: ALiBi": lambda: transformers.MptConfig(
        vocab_size=VOCABULARY, d_model=16, n_layers=4, n_heads=4, max_seq_len=1024
    ),
    "falcon: ALiBi": lambda: transformers.FalconConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=4,
        alibi=True,
        new_decoder_architecture=False,
    ),
    "gpt-neo: local attention of its own": lambda: transformers.GPTNeoConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_layers=4,
        num_heads=4,
        window_size=WINDOW,
        max_position_embeddings=1024,
        attention_types=[[["global", "local"], 2]],
    ),
}
"""Models that attention in parts does not know."""

REFUSED = {
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2
    ),
    "gpt": lambda: transformers.OpenAIGPTConfig(
        vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4
    ),
    "rwkv": lambda: transformers.RwkvConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2
    ),
}
"""Models without a key-value cache."""


def made(config: Any) -> Any:
    """A random model whose weights, norms and sinks matter."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)
