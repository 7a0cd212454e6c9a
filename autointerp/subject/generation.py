"""Logits of texts and their continuations, with whatever interventions are in force.

Rows are padded on the left; padding is masked out and takes no position, so a row's numbers are
those it has alone. Before every forward pass the subject is told where each token stands, so that
an edit finds its positions among cached tokens too: it acts on a token once, when that token is
run, and keys and values made then stay in the cache.
"""

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from autointerp.records import AutointerpError, derived_seed, refuse_text
from autointerp.subject.intervene import Pass

if TYPE_CHECKING:
    from autointerp.subject.model import Subject


_FIRST_TOKENS = 512
"""Tokens in which the nucleus is looked for first."""


@dataclass(frozen=True)
class Sampling:
    """How a text is continued."""

    max_new_tokens: int = 40
    """Most tokens added."""

    temperature: float = 0.0
    """Divides the logits; 0 takes the likeliest token."""

    top_p: float = 1.0
    """Only the likeliest tokens whose probabilities sum to at least this are drawn from."""

    seed: int = 0
    """Of the random numbers; each text has its own."""

    stop_at_end: bool = True
    """End a text at the model's end mark."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise AutointerpError(f"max_new_tokens is {self.max_new_tokens}: set it to 1 or more")
        if not self.temperature >= 0:
            raise AutointerpError(f"temperature is {self.temperature}: set it to 0 or more")
        if not 0 < self.top_p <= 1:
            raise AutointerpError(f"top_p is {self.top_p}: set it above 0, at most 1")


@dataclass(frozen=True)
class Generation:
    """A text and how it was continued."""

    prompt_ids: tuple[int, ...]
    new_ids: tuple[int, ...]
    """Tokens added, without the end mark."""

    text: str
    """The added tokens as text; empty where the subject has no tokenizer."""

    ended: bool
    """Whether the model ended it itself."""


def text_ids(subject: "Subject", text: str | Sequence[int]) -> tuple[int, ...]:
    """Token ids of a text as the tokenizer begins texts; ids are passed through.

    Raises:
        AutointerpError: where there is no token at all, or more than the subject can read.
    """
    if isinstance(text, str):
        if subject.tokenizer is None:
            raise AutointerpError(f"{subject.name} has no tokenizer: give token ids")
        ids = tuple(int(i) for i in subject.tokenizer(text)["input_ids"])
    else:
        ids = tuple(int(i) for i in text)
    if not ids:
        raise AutointerpError("a text has no tokens: give at least one word")
    limit = subject.max_tokens
    if limit is not None and len(ids) > limit:
        raise AutointerpError(
            f"a text has {len(ids)} tokens, but {subject.name} reads at most {limit}: shorten it"
        )
    return ids


def end_ids(subject: "Subject") -> frozenset[int]:
    """Ids that end a text."""
    generation = getattr(subject.model, "generation_config", None)
    ends: Any = getattr(generation, "eos_token_id", None)
    found = set(ends) if isinstance(ends, list | tuple) else {ends}
    found.add(getattr(subject.tokenizer, "eos_token_id", None))
    return frozenset(int(i) for i in found if i is not None)


@torch.inference_mode()
def next_logits(subject: "Subject", texts: Sequence[Sequence[int]], batch_size: int) -> Tensor:
    """See `Subject.next_logits`."""

    def run(first: int, last: int) -> Tensor:
        return _Rows(subject, texts[first:last], first).step(last_only=True)[:, -1]

    parts = [part for _, part in _in_parts(subject, len(texts), batch_size, run)]
    return torch.cat(parts) if parts else torch.zeros(0, 0, device=subject.device)


def each_logits(
    subject: "Subject", texts: Sequence[Sequence[int]], batch_size: int
) -> Iterator[Tensor]:
    """See `Subject.each_logits`."""

    @torch.inference_mode()
    def run(first: int, last: int) -> Tensor:
        return _Rows(subject, texts[first:last], first).step(last_only=False)

    for first, logits in _in_parts(subject, len(texts), batch_size, run):
        for place, row in enumerate(logits):
            yield row[len(row) - len(texts[first + place]) :]


@torch.inference_mode()
def generate(
    subject: "Subject",
    texts: Sequence[str | Sequence[int]],
    sampling: Sampling,
    samples: Sequence[int] | None,
    batch_size: int,
) -> list[Generation]:
    """See `Subject.generate`."""
    refuse_text(texts, "texts as a list")
    prompts = [text_ids(subject, text) for text in texts]
    limit = subject.max_tokens
    for ids in prompts:
        if limit is not None and len(ids) + sampling.max_new_tokens > limit:
            raise AutointerpError(
                f"{len(ids)} tokens and {sampling.max_new_tokens} new ones are more than the "
                f"{limit} that {subject.name} reads: shorten the text or lower max_new_tokens"
            )
    numbers = list(samples) if samples is not None else _occurrences(prompts)
    if len(numbers) != len(prompts):
        raise ValueError(f"{len(numbers)} sample numbers for {len(prompts)} texts")

    def run(first: int, last: int) -> list[Generation]:
        return _continue(subject, prompts[first:last], sampling, numbers[first:last], first)

    return [one for _, part in _in_parts(subject, len(prompts), batch_size, run) for one in part]


def _occurrences(prompts: Sequence[tuple[int, ...]]) -> list[int]:
    seen: Counter[tuple[int, ...]] = Counter()
    numbers: list[int] = []
    for prompt in prompts:
        numbers.append(seen[prompt])
        seen[prompt] += 1
    return numbers


def _in_parts(subject: "Subject", n: int, size: int, run: Any) -> Iterator[tuple[int, Any]]:
    """`run(first, last)` over ranges of rows; halved, for good, where memory does not suffice."""
    from autointerp.subject.model import is_out_of_memory

    if size < 1:
        raise ValueError(f"batch_size must be at least 1, not {size}")
    first = 0
    while first < n:
        last, found = min(n, first + size), None
        try:
            found = run(first, last)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        if found is None:
            # Outside the handler: the error holds on to the tensors that filled the memory.
            if subject.device.type == "cuda":
                torch.cuda.empty_cache()
            if last - first < 2:
                raise AutointerpError(
                    f"{subject.name}: {subject.device} has not enough memory for one text: give "
                    "shorter ones, or set the subject's device_map or dtype"
                )
            size = (last - first) // 2
            continue
        yield first, found
        first = last


class _Rows:
    """A batch of texts on its way through the model, with its cache."""

    def __init__(
        self, subject: "Subject", prompts: Sequence[Sequence[int]], first_row: int
    ) -> None:
        for one in (prompts, *prompts):
            refuse_text(one, "token ids of each text, such as tokenizer(text)['input_ids']")
        self._subject = subject
        device = subject.device
        longest = max(map(len, prompts))
        ids = [[0] * (longest - len(p)) + list(map(int, p)) for p in prompts]
        own = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
        self._tokens = torch.tensor(ids, device=device)
        self._mask = torch.tensor(own, device=device)
        self._rows = torch.arange(len(prompts), device=device) + first_row
        self._lengths = self._mask.sum(1)
        self._cache: Any = None
        accepted = inspect.signature(subject.model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def keep_cache(self) -> None:
        """From here on keys and values are kept: tokens are to be appended."""
        from transformers import DynamicCache

        # With the config: some layers see a window only.
        self._cache = DynamicCache(config=self._subject.model.config)

    def step(self, *, last_only: bool) -> Tensor:
        """Run the tokens that wait; logits [n_rows, n_tokens or 1, vocab] float32."""
        positions = (self._mask.cumsum(1) - 1).masked_fill(self._mask == 0, -1)
        positions = positions[:, -self._tokens.shape[1] :]
        now = Pass(self._rows, positions, self._lengths)
        with self._subject.pass_of(now):
            output = self._subject.model(
                input_ids=self._tokens,
                attention_mask=self._mask,
                past_key_values=self._cache,
                use_cache=self._cache is not None,
                **({"position_ids": positions.clamp(min=0)} if self._takes_positions else {}),
                **(self._last_only if last_only else {}),
            )
        return output.logits.float().to(self._subject.device)

    def append(self, tokens: Tensor) -> None:
        """One more token [n_rows] for every row."""
        self._tokens = tokens[:, None].to(self._mask.device)
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], 1)

    def keep(self, going: list[int]) -> None:
        """Only these rows go on."""
        kept = torch.tensor(going, device=self._mask.device)
        self._tokens, self._mask = self._tokens[kept], self._mask[kept]
        self._rows, self._lengths = self._rows[kept], self._lengths[kept]
        self._cache.batch_select_indices(kept)


def _continue(
    subject: "Subject",
    prompts: Sequence[tuple[int, ...]],
    sampling: Sampling,
    numbers: Sequence[int],
    first_row: int,
) -> list[Generation]:
    rows = _Rows(subject, prompts, first_row)
    rows.keep_cache()
    ends = end_ids(subject) if sampling.stop_at_end else frozenset[int]()
    new: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    active = list(range(len(prompts)))
    chance = [_random(sampling, prompt, n) for prompt, n in zip(prompts, numbers, strict=True)]
    for n_done in range(sampling.max_new_tokens):
        logits = rows.step(last_only=True)[:, -1]
        uniform = torch.tensor([float(torch.rand((), generator=chance[i])) for i in active])
        tokens = choose(logits, sampling, uniform.to(logits.device))
        going: list[int] = []
        for place, (row, token) in enumerate(zip(active, tokens.tolist(), strict=True)):
            if token in ends:
                ended[row] = True
            else:
                new[row].append(token)
                going.append(place)
        if not going or n_done + 1 == sampling.max_new_tokens:
            break
        rows.append(tokens)
        if len(going) < len(active):
            rows.keep(going)
            active = [active[place] for place in going]
    decode = subject.tokenizer.decode if subject.tokenizer is not None else lambda *_, **__: ""
    return [
        Generation(prompt, tuple(ids), str(decode(ids, skip_special_tokens=True)), end)
        for prompt, ids, end in zip(prompts, new, ended, strict=True)
    ]


def _random(sampling: Sampling, prompt: tuple[int, ...], number: int) -> torch.Generator:
    generator = torch.Generator()
    return generator.manual_seed(derived_seed(sampling.seed, "generate", prompt, number))


def choose(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """The next token of every row, by inversion: one uniform number decides.

    Tokens are ordered by probability, p_(1) >= p_(2) >= …, cut after the first k whose sum reaches
    top_p (Holtzman et al. 2020), and the first whose cumulative sum exceeds u · Σ p_(1…k) is taken.

    Args:
        logits: [n_rows, vocab] float32.
        sampling: temperature and top-p.
        uniform: [n_rows] in [0, 1).

    Returns:
        [n_rows] int64.
    """
    if sampling.temperature == 0:
        return logits.argmax(1)
    probabilities, order = _nucleus((logits / sampling.temperature).softmax(1), sampling.top_p)
    total = probabilities.cumsum(1)
    kept = total - probabilities < sampling.top_p
    mass = (probabilities * kept).sum(1, keepdim=True)
    place = (total <= uniform[:, None] * mass).sum(1, keepdim=True)
    last = kept.sum(1, keepdim=True) - 1
    return order.gather(1, torch.minimum(place, last))[:, 0]


def _nucleus(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Tokens in order of probability, as many as hold `top_p` or more; values and ids."""
    n = min(_FIRST_TOKENS, probabilities.shape[1])
    if top_p < 1:
        found = probabilities.topk(n, dim=1)
        if bool((found.values.sum(1) > top_p).all()):
            return found.values, found.indices
    # Sorting the whole vocabulary is slow, and needed where the distribution is flat.
    found = probabilities.sort(1, descending=True)
    return found.values, found.indices
