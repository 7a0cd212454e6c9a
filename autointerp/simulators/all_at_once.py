"""All-at-once simulation on a local causal language model, by token ids.

Bills et al. 2023 ask for the levels of all tokens in one prompt: the sequence stands there with a
placeholder where each level would be, and the level distribution is read just before every
placeholder, so no prediction is conditioned on another. Here the prompt is built of pieces that
are tokenised one by one, and the places to read are known by construction: no text is searched.

A prompt may do without placeholders: then the tokens stand side by side as branches of one tree,
all in the same pass, and each is read as if it were the only one (`prefix_model`). Tokens of one
text are one branch, as nothing tells them apart.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autointerp.records import AutointerpError, Simulation, content_key
from autointerp.simulators.base import Simulator, within
from autointerp.simulators.few_shot import FewShot, read_few_shot
from autointerp.simulators.levels import expected_levels, gain_of_ten, level_tokens
from autointerp.simulators.linear import product
from autointerp.simulators.memory import SLOTS_AT_ONCE, Memory, memory_of
from autointerp.simulators.prefix_model import KeysValues, Own, Row, check_has_cache
from autointerp.simulators.prompt import SimulationPrompt, load_prompt
from autointerp.subject import Subject

DEFAULT_PROMPT = "simulate_text_first"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Request:
    """One sequence under one explanation, as the model reads it."""

    job: int
    place: int
    head: int | None
    """Index of what it begins with, among the beginnings that several rows share."""

    own: Own
    slots: list[int]
    """[n_tokens] index into the own tokens after which each token's level is predicted."""

    ones: list[int]
    """[n_tokens] index of the "1" that follows each slot, where "10" is read as two tokens."""


class AllAtOnce(Simulator):
    """Simulates with the next-token distribution of a local language model.

    The few-shot runs once a process, and not at all where it is found on disk; what several rows
    of a call begin with (an explanation, or a text) once per call; and the sequences of several
    explanations share batches. `n_levels` is 11 (0 to 10) where the tokenizer has a token "10" or
    `levels` asks for it, else 10.
    """

    name = "all_at_once"

    def __init__(
        self,
        subject: Subject,
        *,
        prompt: str = DEFAULT_PROMPT,
        mass_floor: float = 0.01,
        levels: str = "auto",
        batch_tokens: int | None = None,
        memory_gb: float | None = None,
        cache: Path | None = None,
    ):
        """Prepare a simulator; the model runs when the first prediction is asked for.

        Args:
            subject: the language model that predicts, with its tokenizer and device.
            prompt: name of a template in `prompts/`, or path of a `.j2` file.
            mass_floor: below this probability on levels a token's prediction is not `known`.
            levels: `auto`, `0-9` or `0-10`, which reads 10 also where it is two tokens.
            batch_tokens: tokens in one forward pass, padding included and shared beginnings not;
                2,048 on a CPU and 16,384 elsewhere if left out. Halved when memory runs out.
            memory_gb: what a simulation may hold beside the model (`memory`), in 10^9 bytes:
                lowers `batch_tokens` where it would hold more.
            cache: folder where the few-shot's keys and values are kept for the next process;
                `None` keeps none.

        Raises:
            AutointerpError: where the tokenizer has no single token for a digit, the model has no
                key-value cache, or a setting is out of range.
        """
        if batch_tokens is not None and batch_tokens < 1:
            raise AutointerpError(f"batch_tokens must be positive, not {batch_tokens}")
        check_has_cache(subject.model)
        self.mass_floor = within(mass_floor, "mass_floor", 0, 1)
        self.prompt: SimulationPrompt = load_prompt(prompt)
        self._subject = subject
        self._tokenizer: Any = subject.tokenizer
        self._ids = lru_cache(maxsize=2**16)(self._tokenise)
        self._levels = level_tokens(self._tokenizer, levels)
        self.n_levels = self._levels.n_levels
        self._prefix_ids = self._few_shot_ids()
        self._few_shot: FewShot | None = None
        self._cache = cache
        self.batch_tokens = self._batch(batch_tokens, memory_gb)
        self.fingerprint = content_key(
            "simulator",
            name=self.name,
            model=subject.fingerprint,
            dtype=str(self._dtype),
            prompt=self.prompt.digest,
            prefix=self._prefix_ids,
            mass_floor=mass_floor,
            levels=[self._levels.ids, self._levels.ten],
        )

    @property
    def n_prefix(self) -> int:
        """Tokens of the few-shot, read once a process."""
        return len(self._prefix_ids)

    @property
    def memory(self) -> Memory:
        """What a simulation holds beside the model, by `batch_tokens`."""
        return memory_of(self._config, self._dtype.itemsize, self.n_prefix)

    def count_tokens(self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> int:
        """Tokens the model will read for `jobs`, the few-shot and padding not counted."""
        heads, requests = self._requests(jobs)
        return sum(map(len, heads)) + sum(len(request.own.ids) for request in requests)

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
        heads, requests = self._requests(jobs)
        results = [[_nothing()] * len(sequences) for _, sequences in jobs]
        if not requests:
            return results
        self._check_context(heads, requests)
        if self._few_shot is None:
            self._check_head()
            self._few_shot = self._read_few_shot()
        alone = [request for request in requests if request.head is None]
        answers = list(self._simulate_rows(self._few_shot, [], alone))
        first = 0
        while first < len(heads):
            states, last = self._heads(self._few_shot, heads, first)
            group = [
                replace(request, head=request.head - first)
                for request in requests
                if request.head is not None and first <= request.head < last
            ]
            answers += self._simulate_rows(self._few_shot, states, group)
            first = last
        for request, simulation in answers:
            results[request.job][request.place] = simulation
        return results

    def _read_few_shot(self) -> FewShot:
        few_shot = read_few_shot(self._subject, self._prefix_ids, self._cache)
        if few_shot.reason is not None:
            _log.warning(
                "simulator %s: shared keys are copied for every row, which is slower and gives "
                "the same: %s",
                self._subject.name,
                few_shot.reason,
            )
        return few_shot

    def _heads(
        self, few_shot: FewShot, heads: list[list[int]], first: int
    ) -> tuple[list[KeysValues], int]:
        """Keys and values of the next heads, and one past the last of them."""
        while True:
            last = first + 1
            longest = len(heads[first])
            while last < len(heads):
                longest = max(longest, len(heads[last]))
                if longest * (last + 1 - first) > self.batch_tokens:
                    break
                last += 1
            try:
                return few_shot.model.heads(few_shot.states, heads[first:last]), last
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                self._give_way(error, longest, last - first)
            self._free()

    def _simulate_rows(
        self, few_shot: FewShot, heads: list[KeysValues], requests: list[_Request]
    ) -> Iterator[tuple[_Request, Simulation]]:
        """Rows of similar length share a batch; memory running out halves it for good."""
        waiting = sorted(requests, key=lambda request: len(request.own.ids))
        while waiting:
            longest = len(waiting[-1].own.ids)
            batch = waiting[-max(1, self.batch_tokens // longest) :]
            try:
                simulations = self._simulate_batch(few_shot, heads, batch)
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                self._give_way(error, longest, len(batch))
            else:
                del waiting[-len(batch) :]
                yield from zip(batch, simulations, strict=True)
                continue
            self._free()

    def _give_way(self, error: Exception, longest: int, n_rows: int) -> None:
        """Halve the batch where memory ran out.

        Raises:
            AutointerpError: where one row alone does not fit.
            Exception: `error`, where it is about something else.
        """
        # A CPU's allocator raises a plain RuntimeError.
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and (
            "allocate memory" not in str(error)
        ):
            raise error
        if n_rows == 1:
            raise AutointerpError(
                f"{self._subject.device} has no memory for one sequence of {longest} tokens: use "
                "shorter windows or a smaller simulator"
            ) from error
        self.batch_tokens = longest * (n_rows // 2)

    def _free(self) -> None:
        """Give cached blocks back; called once the exception no longer holds the batch."""
        if self._subject.device.type == "cuda":
            torch.cuda.empty_cache()

    def _simulate_batch(
        self, few_shot: FewShot, heads: list[KeysValues], batch: list[_Request]
    ) -> list[Simulation]:
        rows = [Row(r.head, r.own, [*r.slots, *r.ones]) for r in batch]
        hidden = few_shot.model.hidden(few_shot.states, heads, rows)
        lengths = [len(request.slots) for request in batch]
        parts = [part.split(n) for part, n in zip(hidden.split(_reads(rows)), lengths, strict=True)]
        slots = torch.cat([part[0] for part in parts])
        ones = torch.cat([part[1] for part in parts]) if self._levels.ten else None
        expected, mass = self._levels_at(slots, ones)
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

    def _levels_at(self, slots: Tensor, ones: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
        """Expected levels and mass at slots.

        Args:
            slots: [n_slots, d_model] hidden states.
            ones: the same after the "1" that follows each slot, where "10" is two tokens.
        """
        expected: list[Tensor] = []
        mass: list[Tensor] = []
        for first in range(0, len(slots), SLOTS_AT_ONCE):
            logits = self._logits(slots[first : first + SLOTS_AT_ONCE])
            level_ids = torch.tensor(self._levels.ids, device=logits.device)
            levels, on_levels = expected_levels(logits, level_ids)
            if ones is not None:
                after_one = self._logits(ones[first : first + SLOTS_AT_ONCE])
                levels = levels + gain_of_ten(logits, after_one, level_ids)
            expected.append(levels.cpu())
            mass.append(on_levels.cpu())
        return torch.cat(expected).numpy(), torch.cat(mass).numpy()

    def _logits(self, hidden: Tensor) -> Tensor:
        """[n, d_model] → [n, vocab], as the model's own head and its scaling would."""
        head: Any = self._subject.model.get_output_embeddings()
        config = self._config
        hidden = hidden.to(head.weight.device)
        plain = type(head) is torch.nn.Linear
        logits = (product(hidden, head.weight, head.bias) if plain else head(hidden)).float()
        logits = logits * (getattr(config, "logit_scale", None) or 1.0)
        logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits

    def _check_head(self) -> None:
        """Compare `_logits` with the model's own on a few tokens: heads differ by architecture."""
        ids = torch.tensor([self._prefix_ids[:4]], device=self._subject.device)
        own = self._subject.model(input_ids=ids).logits[0, -1].float()
        hidden = self._subject.model.base_model(input_ids=ids).last_hidden_state[0, -1:]
        difference = float((self._logits(hidden)[0] - own.to(hidden.device)).abs().max())
        bound = 0.05 * (1 + float(own.abs().max()))
        if not difference <= bound:
            raise AutointerpError(
                f"the logits of {self._subject.name!r} are not its head applied to its last hidden "
                f"states (they differ by {difference:.3g}): it cannot be a simulator; use a Llama, "
                "Qwen, Gemma, GPT-2 or Pythia model"
            )

    @property
    def _config(self) -> Any:
        return self._subject.model.config.get_text_config()

    @property
    def _dtype(self) -> torch.dtype:
        return next(self._subject.model.parameters()).dtype

    def _batch(self, batch_tokens: int | None, memory_gb: float | None) -> int:
        """Tokens of a batch by the settings, or by what is fast on the device."""
        default = 2_048 if self._subject.device.type == "cpu" else 16_384
        wanted = default if batch_tokens is None else batch_tokens
        return wanted if memory_gb is None else min(wanted, self.memory.largest_batch(memory_gb))

    def _check_context(self, heads: list[list[int]], requests: list[_Request]) -> None:
        limit = getattr(self._config, "max_position_embeddings", None) or math.inf
        needed = self.n_prefix + max(
            (0 if r.head is None else len(heads[r.head])) + max(r.own.positions()) + 1
            for r in requests
        )
        if needed > limit:
            raise AutointerpError(
                f"a simulation prompt has {needed} tokens, but {self._subject.name!r} reads at "
                f"most {limit}: use shorter windows, or a model with a longer context"
            )

    def _requests(
        self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]
    ) -> tuple[list[list[int]], list[_Request]]:
        """Ids of the heads that several rows share, and one row per sequence that has tokens."""
        wanted = [
            (job, place, tokens, *self.prompt.start(explanation, "".join(tokens)))
            for job, (explanation, sequences) in enumerate(jobs)
            for place, tokens in enumerate(sequences)
            if len(tokens)
        ]
        rows_under = Counter(head for *_, head, _ in wanted)
        shared = [head for head, n_rows in rows_under.items() if n_rows > 1]
        index = {head: place for place, head in enumerate(shared)}
        requests: list[_Request] = []
        for job, place, tokens, head, rest in wanted:
            before = [] if head in index else list(self._ids(head))
            own, slots, ones = self._own([*before, *self._ids(rest)], tokens)
            requests.append(_Request(job, place, index.get(head), own, slots, ones))
        return [list(self._ids(head)) for head in shared], requests

    def _own(self, before: list[int], tokens: Sequence[str]) -> tuple[Own, list[int], list[int]]:
        """A row's own tokens with no level shown, up to the last slot; its slots; its ones."""
        if self.prompt.branches:
            return self._forked(before, tokens)
        items, slots = self._items(tokens, [None] * len(tokens))
        slots = [len(before) + slot for slot in slots]
        ids = (before + items)[: slots[-1] + 1]
        if self._levels.ten is None:
            return Own(ids), slots, []
        ones = list(range(len(ids), len(ids) + len(slots)))
        parents = [*range(-1, len(ids) - 1), *slots]
        return Own([*ids, *[self._levels.ten[0]] * len(slots)], parents), slots, ones

    def _forked(self, before: list[int], tokens: Sequence[str]) -> tuple[Own, list[int], list[int]]:
        """One branch per distinct token."""
        ids = list(before)
        parents = list(range(-1, len(before) - 1))
        ends: dict[str, int] = {}
        for token in dict.fromkeys(tokens):
            item = [*self._item(token), *(self._levels.ten or ())[:1]]
            parents += [len(before) - 1, *range(len(ids), len(ids) + len(item) - 1)]
            ids += item
            ends[token] = len(ids) - 1
        last = [ends[token] for token in tokens]
        if self._levels.ten is None:
            return Own(ids, parents), last, []
        return Own(ids, parents), [parents[one] for one in last], last

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
                ids += self._levels.shown(level)
            ids += self._ids(self.prompt.separator)
        return ids, slots

    def _few_shot_ids(self) -> list[int]:
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


def _beginning(tokenizer: Any) -> list[int]:
    """The beginning-of-sequence id, where the tokenizer puts one before a text."""
    first = tokenizer("0")["input_ids"][:1]
    return list(first) if first == [tokenizer.bos_token_id] else []


def _reads(rows: list[Row]) -> list[int]:
    return [len(row.reads) for row in rows]


def _nothing() -> Simulation:
    """The simulation of a sequence without tokens."""
    return Simulation(np.zeros(0, np.float32), np.zeros(0, bool), np.zeros(0, np.float32))
