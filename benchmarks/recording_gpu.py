"""A subject with random weights for benchmarks/recording.py, made where it runs: no files, no hub.

Times do not depend on what weights mean; the model has the shape of Gemma-2-2b.
"""

import numpy as np
import torch

from autointerp.records import Sequence, Split
from autointerp.subject import Subject

TINY = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
}  # fmt: skip
"""A shape on which the case itself can be tried without a GPU."""


def random_gemma(device: torch.device, *, is_tiny: bool) -> Subject:
    """Gemma 2: 26 blocks of width 2,304, 256,000 tokens, unless tiny; bfloat16 on a GPU."""
    from transformers import Gemma2Config, Gemma2ForCausalLM
    from transformers.initialization import no_init_weights

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    config = Gemma2Config(**(TINY if is_tiny else {}))
    with torch.device(device), no_init_weights():
        model = Gemma2ForCausalLM(config).to(dtype).eval()
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.02, generator=generator)
    return Subject("random gemma", model, None, device, "random")


def random_sequences(n_tokens: int, length: int, n_vocabulary: int) -> list[Sequence]:
    """Sequences of Zipf-distributed tokens, one a document, the first token masked."""
    generator = np.random.default_rng(0)
    shares = 1 / np.arange(10, 10 + n_vocabulary)
    bounds = np.cumsum(shares / shares.sum())
    places = np.arange(length, dtype=np.int32)
    splits = [*[Split.EXPLAIN] * 4, Split.CALIBRATE, *[Split.TEST] * 4, Split.AUDIT]
    return [
        Sequence(
            f"{i:016x}", f"d{i}", splits[generator.integers(10)],
            np.minimum(np.searchsorted(bounds, generator.random(length)), n_vocabulary - 1)
            .astype(np.int32),
            places == 0, places, places + 1,
        )
        for i in range(max(1, n_tokens // length))
    ]  # fmt: skip
