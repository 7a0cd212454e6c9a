"""What a simulation holds in memory, from the sizes of the model: stated before it runs.

    few-shot     n_prefix * kv                          kv = 2 n_blocks n_kv_heads d_head bytes
    heads        batch * kv                             what rows begin with, of one group
    own tokens   batch * (4 d_model + 4 n_heads d_head + 4 n_kv_heads d_head + 4 d_mlp) bytes
    scores       two chunks of attention scores in float32, where no fused kernel does the work
    logits       256 slots * vocabulary * 3 in float32

beside the model itself. `batch` is `batch_tokens`. Nothing of the own tokens is kept from one
block to the next but the residual stream.
"""

from dataclasses import dataclass
from typing import Any

from autointerp.records import AutointerpError
from autointerp.simulators.attention import SCORES_AT_ONCE

SLOTS_AT_ONCE = 256
"""Slots whose logits over the whole vocabulary are held at a time."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a simulation holds beside its model."""

    fixed: int
    """However small the batch is: few-shot, scores and logits."""

    per_token: int
    """For every token of a batch."""

    def bytes_of(self, batch_tokens: int) -> int:
        """Of a simulation with this batch."""
        return self.fixed + batch_tokens * self.per_token

    def largest_batch(self, memory_gb: float) -> int:
        """Tokens of the largest batch that stays within so many GB (10^9 bytes).

        Raises:
            AutointerpError: where not even one token does.
        """
        room = int(memory_gb * 1e9) - self.fixed
        if room < self.per_token:
            least = (self.fixed + self.per_token) / 1e9
            raise AutointerpError(
                f"simulator.memory_gb is {memory_gb}, but this simulator holds {least:.2g} GB "
                "beside its model whatever the batch: raise it, or take a shorter prompt or a "
                "smaller model"
            )
        return room // self.per_token


def memory_of(config: Any, itemsize: int, n_prefix: int) -> Memory:
    """What a model of this configuration holds; see the module's table.

    Args:
        config: a `transformers` text configuration.
        itemsize: bytes of a number of the model.
        n_prefix: tokens of the few-shot.
    """
    width = config.hidden_size
    n_heads = config.num_attention_heads
    n_kv = getattr(config, "num_key_value_heads", None) or n_heads
    d_head = getattr(config, "head_dim", None) or width // n_heads
    inner = (
        getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width
    )
    kept = 2 * config.num_hidden_layers * n_kv * d_head * itemsize
    working = 4 * (width + n_heads * d_head + n_kv * d_head + inner) * itemsize
    scores = 2 * 4 * SCORES_AT_ONCE
    logits = 3 * 4 * SLOTS_AT_ONCE * config.vocab_size
    return Memory(n_prefix * kept + scores + logits, kept + working)
