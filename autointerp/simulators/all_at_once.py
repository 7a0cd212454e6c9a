"""All-at-once simulation on a local causal language model, by token ids.

Bills et al. 2023 ask for the levels of all tokens in one prompt: the sequence stands there with a
placeholder where each level would be, and the level distribution is read just before every
placeholder, so no prediction is conditioned on another. Here the prompt is built of pieces that
are tokenised one by one, and the places to read are known by construction: no text is searched.

A prompt may do without placeholders: then the tokens stand side by side as branches of one tree,
all in the same pass, and each is read as if it were the only one (`shared_prefix`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autointerp.records import AutointerpError, Simulation, content_key
from autointerp.simulators.base import Simulator
from autointerp.simulators.prompt import SimulationPrompt, load_prompt
from autointerp.simulators.shared_prefix import Heads, KeysValues, Own, PrefixSharingModel
from autointerp.subject import Subject

DEFAULT_PROMPT = "simulate_text_first"

_HEADS_AT_ONCE = 64
"""Heads whose keys and values are computed in one pass, and held until their rows are done."""

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
    """One sequence under one explanation, as the model reads it."""

    job: int
    place: int
    head: int
    """Index of what it begins with, among the distinct beginnings."""

    own: Own
    slots: list[int]
    """[n_tokens] index into the own tokens after which each token's level is predicted."""


class AllAtOnce(Simulator):
    """Simulates with the next-token distribution of a local language model.

    The few-shot runs once per instance; what several rows of a call begin with (an explanation, or
    a text) once per call; and the sequences of several explanations share batches. `n_levels` is
    11 (0 to 10) where the tokenizer has a token "10", else 10.
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
        self._heads_at_once = _HEADS_AT_ONCE
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
        heads, rows = self._rows(jobs)
        return sum(map(len, heads)) + sum(len(row.own.ids) for row in rows)

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
        heads, rows = self._rows(jobs)
        results = [[_nothing()] * len(sequences) for _, sequences in jobs]
        if not rows:
            return results
        self._check_context(heads, rows)
        if self._prefix is None:
            self._check_head()
            self._prefix = self._model.prefix(self._prefix_ids)
        first = 0
        while first < len(heads):
            states, last = self._heads(self._prefix, heads, first)
            group = [replace(r, head=r.head - first) for r in rows if first <= r.head < last]
            for row, simulation in self._simulate_rows(self._prefix, states, group):
                results[row.job][row.place] = simulation
            first = last
        return results

    def _heads(self, prefix: KeysValues, heads: list[list[int]], first: int) -> tuple[Heads, int]:
        """Keys and values of the next heads, and one past the last of them."""
        while True:
            group = heads[first : first + self._heads_at_once]
            try:
                return self._model.heads(prefix, group), first + len(group)
            except torch.OutOfMemoryError as error:
                if len(group) == 1:
                    raise self._too_long(len(group[0])) from error
                self._heads_at_once = len(group) // 2
            self._free()

    def _simulate_rows(
        self, prefix: KeysValues, heads: Heads, rows: list[_Row]
    ) -> Iterator[tuple[_Row, Simulation]]:
        """Rows of similar length share a batch; memory running out halves it for good."""
        waiting = sorted(rows, key=lambda row: len(row.own.ids))
        while waiting:
            longest = len(waiting[-1].own.ids)
            batch = waiting[-max(1, self.batch_tokens // longest) :]
            try:
                simulations = self._simulate_batch(prefix, heads, batch)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise self._too_long(longest) from error
                self.batch_tokens = longest * (len(batch) // 2)
            else:
                del waiting[-len(batch) :]
                yield from zip(batch, simulations, strict=True)
                continue
            self._free()

    def _free(self) -> None:
        """Give cached blocks back; called once the exception no longer holds the batch."""
        if self._subject.device.type == "cuda":
            torch.cuda.empty_cache()

    def _too_long(self, n_tokens: int) -> AutointerpError:
        return AutointerpError(
            f"{self._subject.device} has no memory for one sequence of {n_tokens} tokens: use "
            "shorter windows or a smaller simulator"
        )

    def _simulate_batch(
        self, prefix: KeysValues, heads: Heads, batch: list[_Row]
    ) -> list[Simulation]:
        own = [row.own for row in batch]
        hidden = self._model.hidden(prefix, heads, [row.head for row in batch], own)
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

    def _check_context(self, heads: list[list[int]], rows: list[_Row]) -> None:
        config: Any = self._subject.model.config.get_text_config()  # pyright: ignore
        limit = getattr(config, "max_position_embeddings", None) or math.inf
        if self.prompt.branches:  # their mask replaces the one that sliding windows would need
            limit = min(limit, getattr(config, "sliding_window", None) or math.inf)
        needed = self.n_prefix + max(
            len(heads[row.head]) + max(row.own.positions()) + 1 for row in rows
        )
        if needed > limit:
            raise AutointerpError(
                f"a simulation prompt has {needed} tokens, but {self._subject.name!r} reads at "
                f"most {limit}: use shorter windows, or a model with a longer context"
            )

    def _rows(
        self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]
    ) -> tuple[list[list[int]], list[_Row]]:
        """Token ids of the distinct heads, and one row per sequence that has tokens."""
        index: dict[str, int] = {}
        rows: list[_Row] = []
        for job, (explanation, sequences) in enumerate(jobs):
            for place, tokens in enumerate(sequences):
                if len(tokens):
                    head, rest = self.prompt.start(explanation, "".join(tokens))
                    own, slots = self._own(rest, tokens)
                    rows.append(_Row(job, place, index.setdefault(head, len(index)), own, slots))
        return [list(self._ids(head)) for head in index], rows

    def _own(self, rest: str, tokens: Sequence[str]) -> tuple[Own, list[int]]:
        """What follows a row's head, with no level shown, up to the last slot; where to read."""
        ids = list(self._ids(rest))
        if not self.prompt.branches:
            items, slots = self._items(tokens, [None] * len(tokens))
            slots = [len(ids) + slot for slot in slots]
            return Own((ids + items)[: slots[-1] + 1]), slots
        branches = [0] * len(ids)
        slots: list[int] = []
        for place, token in enumerate(tokens):
            item = self._item(token)
            ids += item
            branches += [place + 1] * len(item)
            slots.append(len(ids) - 1)
        return Own(ids, branches), slots

    def _item(self, token: str) -> list[int]:
        """Ids of one token up to its level."""
        return [*self._ids(self.prompt.token(token)), *self._ids(self.prompt.mark)]

    def _items(
        self, tokens: Sequence[str], levels: Sequence[int | None]
    ) -> tuple[list[int], list[int]]:
        """Ids of a list of tokens whose levels are shown where they are not `None`; its slots."""
        ids: list[int] = []
        slots: list[int] = []
        for token, level in zip(tokens, levels, strict=True):
            ids += self._item(token)
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
            for piece in self.prompt.start(example.explanation, example.text):
                ids += self._ids(piece)
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
