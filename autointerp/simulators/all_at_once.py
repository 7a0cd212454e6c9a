"""All-at-once simulation on a local causal language model, by token ids.

Bills et al. 2023 ask for the levels of all tokens in one prompt: the sequence stands there with a
placeholder where each level would be, and the level distribution is read just before every
placeholder, so no prediction is conditioned on another. Here the prompt is built of pieces that
are tokenised one by one, and the places to read are known by construction: no text is searched.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autointerp.records import AutointerpError, Simulation, content_key
from autointerp.simulators.base import Simulator
from autointerp.simulators.prompt import SimulationPrompt, load_prompt
from autointerp.simulators.shared_prefix import Explanations, KeysValues, PrefixSharingModel
from autointerp.subject import Subject

DEFAULT_PROMPT = "simulate_text_first"

_EXPLANATIONS_AT_ONCE = 64
"""Explanations whose keys and values are held at a time."""

_SLOT_CHUNK = 256
"""Slots whose logits over the whole vocabulary are held at a time."""


def expected_levels(slot_logits: Tensor, level_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Expected activation level at every slot (Bills et al. 2023, "Simulating").

    E = sum_k k p_k / sum_k p_k over the level tokens; mass = sum_k p_k over the whole vocabulary.

    Args:
        slot_logits: [n_slots, vocab].
        level_ids: [n_levels], one vocabulary id per level, ascending.

    Returns:
        expected [n_slots] in levels and mass [n_slots] in [0, 1].
    """
    logits = slot_logits.float()
    level_logits = logits[:, level_ids]
    levels = torch.arange(len(level_ids), device=logits.device, dtype=logits.dtype)
    expected = level_logits.softmax(-1) @ levels
    mass = (level_logits.logsumexp(-1) - logits.logsumexp(-1)).exp().clamp(max=1.0)
    return expected, mass


@dataclass(frozen=True)
class _Row:
    """One sequence under one explanation, as the model reads it after the explanation."""

    job: int
    place: int
    explanation: int
    """Index among the distinct explanations."""

    ids: list[int]
    slots: list[int]
    """[n_tokens] index into `ids` after which each token's level is predicted."""


class AllAtOnce(Simulator):
    """Simulates with the next-token distribution of a local language model.

    The few-shot runs once per instance, an explanation once per call, and the sequences of several
    explanations share batches. `n_levels` is 11 (0 to 10) where the tokenizer has a token "10",
    else 10.
    """

    name = "all_at_once"

    def __init__(
        self,
        subject: Subject,
        *,
        prompt: str = DEFAULT_PROMPT,
        mass_floor: float = 0.01,
        batch_tokens: int | None = None,
    ):
        """Prepare a simulator; the model runs when the first prediction is asked for.

        Args:
            subject: the language model that predicts, with its tokenizer and device.
            prompt: name of a template in `prompts/`, or path of a `.j2` file.
            mass_floor: below this probability on levels a token's prediction is not `known`.
            batch_tokens: tokens in one forward pass, padding included and shared beginnings not;
                2,048 on a CPU and 16,384 elsewhere if left out. Halved when memory runs out.

        Raises:
            AutointerpError: where the tokenizer has no single token for a digit, or a setting is
                out of range.
        """
        if not 0 <= mass_floor <= 1:
            raise AutointerpError(f"mass_floor must lie between 0 and 1, not {mass_floor}")
        default = 2_048 if subject.device.type == "cpu" else 16_384
        self.batch_tokens = default if batch_tokens is None else batch_tokens
        if self.batch_tokens < 1:
            raise AutointerpError(f"batch_tokens must be positive, not {self.batch_tokens}")
        self.mass_floor = mass_floor
        self.prompt: SimulationPrompt = load_prompt(prompt)
        self._subject = subject
        self._tokenizer: Any = subject.tokenizer
        self._model = PrefixSharingModel(subject.model)
        self._ids = lru_cache(maxsize=2**16)(self._tokenise)
        self._level_ids = _level_ids(self._tokenizer)
        self.n_levels = len(self._level_ids)
        self._prefix_ids = self._few_shot()
        self._prefix: KeysValues | None = None
        self.fingerprint = content_key(
            "simulator",
            name=self.name,
            model=subject.fingerprint,
            dtype=str(next(subject.model.parameters()).dtype),
            prompt=self.prompt.digest,
            prefix=self._prefix_ids,
            mass_floor=mass_floor,
        )

    @property
    def n_prefix(self) -> int:
        """Tokens of the few-shot, read once per instance."""
        return len(self._prefix_ids)

    def count_tokens(self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> int:
        """Tokens the model will read for `jobs`, the few-shot and padding not counted."""
        explanations, rows = self._rows(jobs)
        read = {row.explanation for row in rows}
        own = sum(len(row.ids) for row in rows)
        return own + sum(len(ids) for i, ids in enumerate(explanations) if i in read)

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Predict every token of every sequence under one explanation; see `Simulator`."""
        return self.simulate_many([(explanation, sequences)])[0]

    @torch.inference_mode()
    def simulate_many(
        self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]
    ) -> list[list[Simulation]]:
        """Simulate several explanations in shared batches; see `Simulator`.

        Raises:
            AutointerpError: where a prompt is longer than the model's context, or one sequence
                alone does not fit into memory.
        """
        explanations, rows = self._rows(jobs)
        results = [[_nothing()] * len(sequences) for _, sequences in jobs]
        if not rows:
            return results
        self._check_context(explanations, rows)
        if self._prefix is None:
            self._check_head()
            self._prefix = self._model.prefix(self._prefix_ids)
        prefix = self._prefix
        for first in range(0, len(explanations), _EXPLANATIONS_AT_ONCE):
            last = min(first + _EXPLANATIONS_AT_ONCE, len(explanations))
            states = self._model.explanations(prefix, explanations[first:last])
            group = [row for row in rows if first <= row.explanation < last]
            for row, simulation in self._simulate_rows(prefix, states, first, group):
                results[row.job][row.place] = simulation
        return results

    def _simulate_rows(
        self, prefix: KeysValues, states: Explanations, first: int, rows: list[_Row]
    ) -> Iterator[tuple[_Row, Simulation]]:
        """Rows of similar length share a batch; memory running out halves it for good."""
        waiting = sorted(rows, key=lambda row: len(row.ids))
        while waiting:
            longest = len(waiting[-1].ids)
            batch = waiting[-max(1, self.batch_tokens // longest) :]
            try:
                simulations = self._simulate_batch(prefix, states, first, batch)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise AutointerpError(
                        f"{self._subject.device} has no memory for one sequence of {longest} "
                        "tokens: use shorter windows or a smaller simulator"
                    ) from error
                self.batch_tokens = longest * (len(batch) // 2)
            else:
                del waiting[-len(batch) :]
                yield from zip(batch, simulations, strict=True)
                continue
            if self._subject.device.type == "cuda":
                torch.cuda.empty_cache()

    def _simulate_batch(
        self, prefix: KeysValues, states: Explanations, first: int, batch: list[_Row]
    ) -> list[Simulation]:
        chosen = [row.explanation - first for row in batch]
        hidden = self._model.hidden(prefix, states, chosen, [row.ids for row in batch])
        lengths = [len(row.slots) for row in batch]
        row_index = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor(lengths))
        slot_index = torch.tensor([slot for row in batch for slot in row.slots])
        at_slots = hidden[row_index.to(hidden.device), slot_index.to(hidden.device)]
        level_ids = torch.tensor(self._level_ids, device=hidden.device)
        parts = [
            expected_levels(self._logits(chunk), level_ids.to(chunk.device))
            for chunk in at_slots.split(_SLOT_CHUNK)
        ]
        expected = torch.cat([part[0] for part in parts]).cpu().numpy()
        mass = torch.cat([part[1] for part in parts]).cpu().numpy()
        ends = np.cumsum(lengths)
        return [
            self._simulation(expected[end - length : end], mass[end - length : end])
            for end, length in zip(ends, lengths, strict=True)
        ]

    def _simulation(self, expected: np.ndarray, mass: np.ndarray) -> Simulation:
        return Simulation(
            expected=expected.astype(np.float32),
            known=mass >= self.mass_floor,
            level_mass=mass.astype(np.float32),
        )

    def _logits(self, hidden: Tensor) -> Tensor:
        """[n, d_model] → [n, vocab], as the model's own head and its scaling would."""
        head: Any = self._subject.model.get_output_embeddings()  # pyright: ignore
        config: Any = self._subject.model.config.get_text_config()  # pyright: ignore
        logits = head(hidden.to(head.weight.device)).float()
        logits = logits * (getattr(config, "logit_scale", None) or 1.0)
        logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits

    def _check_head(self) -> None:
        """Compare `_logits` with the model's own on a few tokens: heads differ by architecture."""
        ids = torch.tensor([self._prefix_ids[:4]], device=self._subject.device)
        own = self._subject.model(input_ids=ids).logits[0, -1].float()
        hidden = self._subject.model.base_model(input_ids=ids).last_hidden_state[0, -1:]  # pyright: ignore
        difference = float((self._logits(hidden)[0] - own.to(hidden.device)).abs().max())
        bound = 0.05 * (1 + float(own.abs().max()))
        if not difference <= bound:
            raise AutointerpError(
                f"the logits of {self._subject.name!r} are not its head applied to its last hidden "
                f"states (they differ by {difference:.3g}): it cannot be a simulator; use a Llama, "
                "Qwen, Gemma, GPT-2 or Pythia model"
            )

    def _check_context(self, explanations: list[list[int]], rows: list[_Row]) -> None:
        config: Any = self._subject.model.config.get_text_config()  # pyright: ignore
        limit = getattr(config, "max_position_embeddings", None) or math.inf
        needed = max(self.n_prefix + len(explanations[r.explanation]) + len(r.ids) for r in rows)
        if needed > limit:
            raise AutointerpError(
                f"a simulation prompt has {needed} tokens, but {self._subject.name!r} reads at "
                f"most {limit}: use shorter windows, or a model with a longer context"
            )

    def _rows(
        self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]
    ) -> tuple[list[list[int]], list[_Row]]:
        """Token ids of the distinct explanations, and one row per sequence that has tokens."""
        index: dict[str, int] = {}
        rows: list[_Row] = []
        for job, (explanation, sequences) in enumerate(jobs):
            which = index.setdefault(explanation, len(index))
            for place, tokens in enumerate(sequences):
                if len(tokens):
                    ids, slots = self._sequence(tokens)
                    rows.append(_Row(job, place, which, ids, slots))
        return [list(self._ids(self.prompt.unit(text))) for text in index], rows

    def _sequence(self, tokens: Sequence[str]) -> tuple[list[int], list[int]]:
        """Ids of one sequence with nothing revealed, up to the last slot, and where to read."""
        ids, slots = self._items(tokens, [None] * len(tokens))
        return ids[: slots[-1] + 1], slots

    def _items(
        self, tokens: Sequence[str], levels: Sequence[int | None]
    ) -> tuple[list[int], list[int]]:
        """Ids of a sequence whose levels are shown where they are not `None`, and its slots."""
        ids = list(self._ids(self.prompt.sequence("".join(tokens))))
        slots: list[int] = []
        for token, level in zip(tokens, levels, strict=True):
            ids += self._ids(self.prompt.token(token))
            ids += self._ids(self.prompt.mark)
            slots.append(len(ids) - 1)
            if level is None:
                ids += self._ids(self.prompt.unknown)
            else:
                ids.append(self._level_ids[min(level, self.n_levels - 1)])
            ids += self._ids(self.prompt.separator)
        return ids, slots

    def _few_shot(self) -> list[int]:
        ids = _beginning(self._tokenizer)
        ids += self._ids(self.prompt.opening(self.n_levels - 1))
        for example in self.prompt.examples:
            ids += self._ids(self.prompt.unit(example.explanation))
            shown = [None] * example.hidden + list(example.levels[example.hidden :])
            ids += self._items(example.tokens, shown)[0]
            ids += self._ids(self.prompt.closing)
        return ids

    def _tokenise(self, text: str) -> tuple[int, ...]:
        """Ids of one piece; what looks like a special token in it is text like any other."""
        if not text:
            return ()
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return tuple(encoded["input_ids"])


def _level_ids(tokenizer: Any) -> list[int]:
    """The vocabulary ids of the levels "0" to "10", or to "9" where "10" is two tokens."""
    ids = [_single_id(tokenizer, str(level)) for level in range(11)]
    if ids[10] is None:
        ids = ids[:10]
    known = [i for i in ids if i is not None]
    if len(known) < len(ids) or len(set(known)) < len(ids):
        raise AutointerpError(
            "the simulator's tokenizer has no single token for every digit, so levels cannot be "
            "read from its probabilities; use another model as simulator"
        )
    return known


def _single_id(tokenizer: Any, text: str) -> int | None:
    """The id that follows other text as `text`, where it is one token; else `None`."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) == 1:
        return int(ids[0])
    # SentencePiece tokenizers put a word-start mark before a text of its own.
    found = tokenizer.convert_tokens_to_ids(text)
    return None if found is None or found == tokenizer.unk_token_id else int(found)


def _beginning(tokenizer: Any) -> list[int]:
    """The beginning-of-sequence id, where the tokenizer puts one before a text."""
    first = tokenizer("0")["input_ids"][:1]
    return list(first) if first == [tokenizer.bos_token_id] else []


def _nothing() -> Simulation:
    """The simulation of a sequence without tokens."""
    return Simulation(np.zeros(0, np.float32), np.zeros(0, bool), np.zeros(0, np.float32))
