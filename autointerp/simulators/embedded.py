"""The embedded simulator: a small trained model that ships; free, offline, on a CPU.

    p_t = softmax over 0 … 9 and "the description does not say",   m_t = 1 - p_t(does not say),
    E_t = sum_k k p_t(k) / m_t

read in one forward pass at a text's own tokens (`reader.py`). A description's keys and values are
computed once and serve all its texts. Where the model does not know, m_t is low and the token is
missing. How it was trained, and where it is blind: docs/embedded-simulator.md.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autointerp import resources
from autointerp.records import AutointerpError, Simulation, content_key
from autointerp.simulators.alignment import Aligned, Aligner
from autointerp.simulators.base import Simulator, within
from autointerp.simulators.reader import N_LEVELS, Reader, load_reader

_VERSION = 2
"""Raise when the same model gives other predictions."""

DEFAULT_MASS_FLOOR = 0.5
"""Tokens of which the model holds it likelier that the description does not say are missing."""

MAX_DESCRIPTION_TOKENS = 256
"""Longer descriptions are cut: it was trained on sentences."""


def embedded_simulator_folder() -> Path:
    """Where the trained simulator that ships lies."""
    return resources.path("datasets/simulator/model")


class Embedded(Simulator):
    """Simulates with a trained reader."""

    name = "embedded"
    n_levels = N_LEVELS

    def __init__(
        self,
        reader: Reader,
        tokenizer: Any,
        fingerprint: str,
        *,
        mass_floor: float = DEFAULT_MASS_FLOOR,
        batch_tokens: int | None = None,
    ) -> None:
        """Prepare a simulator; `load_embedded` makes one out of a folder.

        Args:
            reader: its model.
            tokenizer: of the reader's base.
            fingerprint: hash of the reader's weights and shape.
            mass_floor: tokens with less probability on levels are missing.
            batch_tokens: tokens of a forward pass, padding included; 1,024 on a CPU and 32,768
                elsewhere if left out. Halved where memory runs out.

        Raises:
            AutointerpError: where `batch_tokens` is not positive, or the floor no probability.
        """
        self.reader, self.tokenizer = reader, tokenizer
        self.device = reader.head.weight.device
        default = 1_024 if self.device.type == "cpu" else 32_768
        self.batch_tokens = default if batch_tokens is None else batch_tokens
        if self.batch_tokens < 1:
            raise AutointerpError(f"batch_tokens must be positive, not {self.batch_tokens}")
        self.mass_floor = within(mass_floor, "mass_floor", 0, 1)
        self.aligner = Aligner(tokenizer)
        self.fingerprint = content_key(
            "simulator", name=self.name, version=_VERSION, reader=fingerprint, floor=mass_floor
        )

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Predict every token of every sequence under one explanation; see `Simulator`."""
        return self.simulate_many([(explanation, sequences)])[0]

    @torch.inference_mode()
    def simulate_many(
        self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]
    ) -> list[list[Simulation]]:
        """Simulate several explanations; see `Simulator`.

        Raises:
            AutointerpError: where a text is longer than the model's context, or one alone does not
                fit into memory.
        """
        results: list[list[Simulation]] = []
        texts: dict[int, list[Aligned]] = {}  # jobs of one unit share their sequences
        for explanation, sequences in jobs:
            aligned = texts.get(id(sequences))
            if aligned is None:
                aligned = list(map(self.aligner.read, sequences))
                texts[id(sequences)] = aligned
            results.append(self._simulate(explanation, aligned))
        return results

    def count_tokens(self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> int:
        """Tokens the model will read for `jobs`, padding not counted."""
        return sum(len(self._start(text)) + sum(map(len, texts)) for text, texts in jobs)

    def _start(self, explanation: str) -> list[int]:
        """Ids of what stands before a text."""
        shape = self.reader.shape
        said = self._plain(explanation)[:MAX_DESCRIPTION_TOKENS]
        whole = self._plain(shape.before + explanation + shape.after)
        if len(said) < MAX_DESCRIPTION_TOKENS:
            return whole
        return self._plain(shape.before) + said + self._plain(shape.after)

    def _plain(self, text: str) -> list[int]:
        # What looks like a special token in a description is text like any other.
        coded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return list(coded["input_ids"])

    def _simulate(self, explanation: str, texts: Sequence[Aligned]) -> list[Simulation]:
        """All texts under one explanation, in batches of like length."""
        start = self._start(explanation)
        self._check_length(start, texts)
        found: list[Simulation] = [_nothing(len(text.certain)) for text in texts]
        order = sorted(
            (i for i, text in enumerate(texts) if text.ids), key=lambda i: len(texts[i].ids)
        )
        if not order:
            return found
        longest = order.pop()
        try:
            memory, own = self._begin(start, texts[longest].ids)
        except torch.OutOfMemoryError as error:
            raise self._no_room(texts[longest]) from error
        found[longest] = self._simulation(texts[longest], own)
        while order:
            size = max(1, self.batch_tokens // len(texts[order[-1]].ids))
            batch = order[-size:]
            try:
                probabilities = self._read(memory, [texts[i].ids for i in batch], len(start))
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise self._no_room(texts[batch[0]]) from error
                self.batch_tokens = max(1, self.batch_tokens // 2)
                continue
            del order[-len(batch) :]
            for i, own in zip(batch, probabilities, strict=True):
                found[i] = self._simulation(texts[i], own)
        return found

    def _check_length(self, start: Sequence[int], texts: Sequence[Aligned]) -> None:
        longest = len(start) + max((len(text.ids) for text in texts), default=0)
        limit = getattr(self.reader.base.config, "max_position_embeddings", None)
        if limit is not None and longest > limit:
            raise AutointerpError(
                f"a description and a text have {longest} tokens, but the embedded simulator reads "
                f"at most {limit}: use shorter windows"
            )

    def _no_room(self, text: Aligned) -> AutointerpError:
        return AutointerpError(
            f"{self.device} has no memory for one text of {len(text.ids)} tokens: use shorter "
            "windows"
        )

    def _begin(
        self, start: Sequence[int], text: Sequence[int]
    ) -> tuple[list[tuple[Tensor, Tensor]], np.ndarray]:
        """Read a description and, behind it, one text: a few tokens alone would cost the time of
        reading all weights.

        Returns:
            Keys and values of the description, per block [1, n_heads, n_start, d_head], and the
            text's probabilities [n_own, n_classes] float32.
        """
        from transformers import DynamicCache

        cache = DynamicCache()
        ids = torch.tensor([[*start, *text]], device=self.device)
        hidden = self.reader.base(
            input_ids=ids, past_key_values=cache, use_cache=True
        ).last_hidden_state
        n = len(start)
        memory = [
            (layer.keys[:, :, :n], layer.values[:, :, :n])  # pyright: ignore
            for layer in cache.layers
        ]
        return memory, self._probabilities(hidden[0, n:])

    def _probabilities(self, hidden: Tensor) -> np.ndarray:
        return self.reader.head(hidden).float().softmax(-1).cpu().numpy()

    def _read(
        self, memory: Sequence[tuple[Tensor, Tensor]], texts: Sequence[Sequence[int]], n_start: int
    ) -> list[np.ndarray]:
        """Per text the probabilities of all classes, [n_own, n_classes] float32."""
        from transformers import DynamicCache

        longest = max(map(len, texts))
        rows = [list(ids) + [0] * (longest - len(ids)) for ids in texts]
        cache = DynamicCache()
        for block, (keys, values) in enumerate(memory):
            n = len(texts)
            cache.update(keys.expand(n, -1, -1, -1), values.expand(n, -1, -1, -1), block)
        # Padding stands behind every text: the causal mask alone hides it.
        hidden = self.reader.base(
            input_ids=torch.tensor(rows, device=self.device),
            position_ids=torch.arange(n_start, n_start + longest, device=self.device)[None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        probabilities = self._probabilities(hidden)
        return [own[: len(ids)] for own, ids in zip(probabilities, texts, strict=True)]

    def _simulation(self, text: Aligned, own: np.ndarray) -> Simulation:
        """Expected level and mass at the subject's tokens."""
        found = text.back(own)
        levels = found[:, :N_LEVELS]
        mass = levels.sum(1)
        weighted = levels @ np.arange(N_LEVELS, dtype=np.float32)
        expected = np.divide(weighted, mass, out=np.zeros_like(mass), where=mass > 0)
        known = text.certain & (mass >= self.mass_floor)
        return Simulation(expected, known, np.where(text.certain, mass, 0).astype(np.float32))


def load_embedded(
    model: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    mass_floor: float = DEFAULT_MASS_FLOOR,
    batch_tokens: int | None = None,
) -> Embedded:
    """Read a trained reader.

    Args:
        model: a folder with `reader.safetensors` and `reader.json`; the shipped one if left out.
        device: `auto`, `cpu`, `cuda:N` or `mps`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        mass_floor: tokens with less probability on levels are missing.
        batch_tokens: tokens of a forward pass.

    Raises:
        AutointerpError: where there is no such model, or its weights do not fit.
    """
    import transformers
    from transformers import AutoTokenizer

    from autointerp.subject.embedded import EMBEDDED_NAME, embedded_model_folder
    from autointerp.subject.load import choose_device, choose_dtype, weights_fingerprint

    transformers.logging.disable_progress_bar()
    on = choose_device(device)
    reader = load_reader(Path(model) if model else embedded_simulator_folder())
    base = reader.shape.base
    folder = embedded_model_folder() if base == EMBEDDED_NAME else base
    kind = choose_dtype(dtype, on)
    fingerprint = content_key(
        "reader",
        shape=vars(reader.shape),
        weights=weights_fingerprint(reader.base),
        head=[part.tolist() for part in (reader.head.weight, reader.head.bias)],
        dtype=str(kind),
    )
    reader = reader.to(on, kind)
    # Texts in rows of their own need no mask: the fused kernel is the faster one here.
    reader.base.set_attn_implementation("sdpa")
    return Embedded(
        reader,
        AutoTokenizer.from_pretrained(folder),
        fingerprint,
        mass_floor=mass_floor,
        batch_tokens=batch_tokens,
    )


def _nothing(n_tokens: int) -> Simulation:
    """The simulation of a text of which nothing can be read."""
    return Simulation(
        np.zeros(n_tokens, np.float32), np.zeros(n_tokens, bool), np.zeros(n_tokens, np.float32)
    )
