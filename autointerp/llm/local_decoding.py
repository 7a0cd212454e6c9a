"""Decoding on this machine: a batch of prompts to the ends of their answers.

Rows are padded on the left, and so is what each step adds to them: a row whose schema forces some
tokens gets all of them in one step, the others one. What is padding is masked out for good and
takes no position, so every row's answer is what it would be alone.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from autointerp.llm.base import Request, TokenLogprobs
from autointerp.llm.local_grammar import Constraint, Grammars
from autointerp.records import AutointerpError, derived_seed
from autointerp.subject import Subject


def answer_room(request: Request) -> int:
    """Tokens that an answer may take."""
    return 0 if request.echo else request.max_tokens


@dataclass
class Row:
    """One request on its way through a batch."""

    place: int
    """Index among the requests it came with."""

    request: Request
    ids: list[int]
    """The prompt."""

    answer: list[int] = field(default_factory=list[int])
    """Tokens of the answer so far, without the end mark."""

    logprobs: list[TokenLogprobs] = field(default_factory=list[TokenLogprobs])
    n_end_marks: int = 0
    """1 where the model ended the answer itself."""

    n_shared: int = 0
    """Prompt tokens that were computed once for the whole batch."""

    constraint: Constraint | None = None
    """Where the answer stands in the request's schema."""

    problem: str = ""
    """Why there is no answer, where there is none."""

    def reset(self) -> None:
        """Forget the answer."""
        self.answer, self.logprobs, self.n_end_marks, self.n_shared = [], [], 0, 0
        self.constraint, self.problem = None, ""

    @property
    def longest(self) -> int:
        """Tokens of the prompt and of the longest answer."""
        return len(self.ids) + answer_room(self.request)

    @property
    def ended(self) -> bool:
        """Whether the answer is complete: by an end mark, or because its schema allows no more."""
        return bool(self.n_end_marks) or (self.constraint is not None and self.constraint.finished)

    def text(self, tokenizer: Any) -> tuple[str, bool]:
        """The answer before the first stop string, and whether there was one."""
        text = str(tokenizer.decode(self.answer, skip_special_tokens=True))
        places = [place for stop in self.request.stop if stop and (place := text.find(stop)) >= 0]
        return (text[: min(places)], True) if places else (text, False)

    def done(self, tokenizer: Any) -> bool:
        """Whether no further token is wanted."""
        if self.problem or self.ended or len(self.answer) >= self.request.max_tokens:
            return True
        return bool(self.request.stop) and self.text(tokenizer)[1]


def batches(rows: Sequence[Row], batch_tokens: int) -> list[list[Row]]:
    """Rows of similar length together, each batch within the token budget or a single row."""
    found: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: (row.longest, row.place)):
        # Rows come by length, so the new one is the longest of its batch.
        longest = row.longest
        if found and longest * (len(found[-1]) + 1) <= batch_tokens:
            found[-1].append(row)
        else:
            found.append([row])
    return found


class Decoder:
    """Runs a batch of rows to their ends."""

    def __init__(self, subject: Subject) -> None:
        self._model = subject.model
        self._tokenizer = subject.tokenizer
        self._device = subject.device
        accepted = inspect.signature(subject.model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._last_only: dict[str, Any] = (
            {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        )
        config = subject.model.config.get_text_config()
        self._ends = end_ids(subject)
        self.grammars = Grammars(subject.tokenizer, config.vocab_size, self._ends)
        # Windows are counted in places of the cache: padding in it would push tokens out of them.
        self._may_skip = getattr(config, "sliding_window", None) is None

    @torch.inference_mode()
    def run(self, rows: list[Row]) -> None:
        """Fill in the answers of all rows."""
        added = [self._begin(row) for row in rows]
        cache: Any = DynamicCache()
        # A shared start has padding after it, which such windows count.
        n_shared = shared_start([row.ids for row in rows]) if self._may_skip else 0
        if n_shared:
            shared = torch.tensor([rows[0].ids[:n_shared]], device=self._device)
            self._model.base_model(input_ids=shared, past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(len(rows))
            for row in rows:
                row.n_shared = n_shared
        added = [row.ids[n_shared:] + ids for row, ids in zip(rows, added, strict=True)]
        mask = torch.ones(len(rows), n_shared, dtype=torch.int64, device=self._device)
        active, generators = rows, [_generator(row.request) for row in rows]
        while True:
            going = [i for i, row in enumerate(active) if not row.done(self._tokenizer)]
            if not going:
                return
            if len(going) < len(active):
                kept = torch.tensor(going, device=self._device)
                mask = mask[kept]
                if cache.get_seq_length():
                    cache.batch_select_indices(kept)
                active = [active[i] for i in going]
                generators = [generators[i] for i in going]
                added = [added[i] for i in going]
            tokens, own = self._padded(added)
            mask = torch.cat([mask, own], 1)
            positions = (mask.cumsum(1) - 1).clamp_(min=0)[:, -tokens.shape[1] :]
            logits = self._logits(tokens, mask, positions, cache)
            added = [
                self._take(row, row_logits, generator)
                for row, row_logits, generator in zip(active, logits, generators, strict=True)
            ]

    def _padded(self, lists: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """[n_rows, longest] ids, padded on the left, and their mask."""
        longest = max(map(len, lists))
        tokens = torch.tensor([[0] * (longest - len(ids)) + ids for ids in lists])
        own = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in lists])
        return tokens.to(self._device), own.to(self._device)

    def _logits(self, tokens: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """[n_rows, vocab] float32 logits of the next token, on the CPU."""
        output = self._model(
            input_ids=tokens,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **({"position_ids": positions} if self._takes_positions else {}),
            **self._last_only,
        )
        return output.logits[:, -1].float().cpu()

    def _begin(self, row: Row) -> list[int]:
        """Start a row's schema, where it has one; the tokens that its answer must begin with."""
        if row.request.schema is None:
            return []
        try:
            row.constraint = self.grammars.start(row.request.schema)
            return self._forced(row)
        except AutointerpError as error:
            row.problem = str(error)
            return []

    def _take(self, row: Row, logits: Tensor, generator: torch.Generator | None) -> list[int]:
        """Choose a row's next token and note it, with those that its schema forces after it."""
        try:
            allowed = row.constraint.allowed(len(logits)) if row.constraint else None
            chosen = _choose(logits, allowed, row.request.temperature, generator)
            if chosen in self._ends:
                row.n_end_marks = 1
                return [chosen]
            row.answer.append(chosen)
            if row.request.top_logprobs:
                row.logprobs.append(self._logprobs(logits, allowed, chosen, row.request))
            if row.constraint is None:
                return [chosen]
            row.constraint.take(chosen)
            return [chosen, *self._forced(row)]
        except AutointerpError as error:
            row.problem = str(error)
            return [0]

    def _forced(self, row: Row) -> list[int]:
        """What the schema leaves no choice about, noted as answered.

        Not where log-probabilities are wanted: they are read where the model is asked.
        """
        if row.constraint is None or not self._may_skip or row.request.top_logprobs:
            return []
        room = row.request.max_tokens - len(row.answer)
        tokens = row.constraint.forced(room)
        row.answer += tokens
        return tokens

    def _logprobs(
        self, logits: Tensor, allowed: Tensor | None, chosen: int, request: Request
    ) -> TokenLogprobs:
        """What could have stood there; under a schema, only what it allows, of the model's own."""
        logprobs = logits.log_softmax(0)
        shown = logprobs if allowed is None else logprobs.masked_fill(~allowed, -torch.inf)
        values, ids = shown.topk(min(request.top_logprobs, len(shown)))
        texts = [str(self._tokenizer.decode([int(i)])) for i in (chosen, *ids)]
        top = [(t, float(v)) for t, v in zip(texts[1:], values, strict=True) if v > -torch.inf]
        return TokenLogprobs(texts[0], float(logprobs[chosen]), tuple(top))


def _choose(
    logits: Tensor, allowed: Tensor | None, temperature: float, generator: torch.Generator | None
) -> int:
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    if generator is None:
        return int(logits.argmax())
    weights = (logits.double() / temperature).softmax(0)
    return int(torch.multinomial(weights, 1, generator=generator))


def shared_start(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens with which all prompts start; every prompt keeps one of its own. 0 for one prompt."""
    if len(prompts) < 2:
        return 0
    n = 0
    for column in zip(*prompts, strict=False):
        if len(set(column)) > 1:
            break
        n += 1
    return min(n, min(map(len, prompts)) - 1)


def _generator(request: Request) -> torch.Generator | None:
    """The source of a request's chance; `None` where it is greedy."""
    if request.temperature <= 0:
        return None
    generator = torch.Generator()
    generator.manual_seed(derived_seed(request.seed, "sample", request.sample))
    return generator


def end_ids(subject: Subject) -> set[int]:
    """Ids that end an answer."""
    generation = getattr(subject.model, "generation_config", None)
    found = {subject.tokenizer.eos_token_id}
    ends = getattr(generation, "eos_token_id", None)
    found |= set(ends) if isinstance(ends, list | tuple) else {ends}
    return {int(i) for i in found if i is not None}
