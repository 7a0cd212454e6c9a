"""Asks a language model, showing it tokens with their activations (Bills et al. 2023)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autointerp.explainers.asking import (
    Reading,
    asked_language,
    checked_language,
    checked_samples,
    details_of_answers,
    first_readable,
    own_words,
    read_answer,
)
from autointerp.explainers.base import Explaining, ExplainView, dead
from autointerp.explainers.windows import distinct
from autointerp.explainers.words import shown_token
from autointerp.llm import Message, Request, Response, ResponseStatus
from autointerp.records import (
    ActivationRecord,
    AutointerpError,
    Explanation,
    Status,
    content_key,
    derived_seed,
)
from autointerp.stats import normalise_levels
from autointerp.templates import guarded, read_template

_VERSION = 3
"""Raise when the same view and template give another request or another reading of its answer."""

SPARSE_SHARE = 0.2
"""Below this share of non-zero levels the windows are repeated without the zeros."""

N_STRONGEST = 12
"""Most tokens that are named by themselves."""

_ITEM = re.compile(r"^\s*\**(\d{1,2})[.)]\s*", re.MULTILINE)
"""What an item of a numbered list begins with."""

Window = list[tuple[str, int]]
"""A window as it is shown: tokens, escaped, with their levels."""


@dataclass(frozen=True)
class ExplainPrompt:
    """The pieces of an explanation prompt, from a Jinja template that defines them by these names.

    They make a conversation: instructions, the unit's table and its acknowledgement, the strongest
    tokens and the explanation of every example in turn, and the strongest tokens of the unit.
    """

    digest: str
    """Hash of the template's source."""

    instructions: str
    """What it is about: the system message."""

    table: Callable[[Sequence[Window], Sequence[Window]], str]
    """Shows a unit: its windows, and its windows without the zeros (none: not shown)."""

    read: str
    """What the model is made to say to the table."""

    strongest: Callable[[Sequence[str]], str]
    """Asks the question about some tokens."""

    question: str
    """The question alone; an answer that repeats it is no explanation."""

    examples: tuple[tuple[tuple[str, ...], str], ...]
    """The few-shot: strongest tokens and explanation."""

    numbered: Callable[[Sequence[str], int], str] | None = None
    """Asks for a numbered list of so many explanations; `None` where a template does not know how.
    """


def load_prompt(name: str) -> ExplainPrompt:
    """Read an explanation prompt.

    Args:
        name: of a template in `prompts/`, or the path of a `.j2` file.

    Raises:
        AutointerpError: where there is no such template, or it lacks a piece.
    """
    with guarded(
        name,
        "is not an explanation prompt",
        "it must define instructions, table(windows, active), read, question, strongest(tokens) "
        "and examples",
    ):
        template = read_template(name)
        pieces = template.pieces
        return ExplainPrompt(
            digest=template.digest,
            instructions=str(pieces.instructions).strip(),
            table=lambda windows, active: str(pieces.table(windows, active)).strip("\n"),
            read=str(pieces.read).strip(),
            strongest=lambda tokens: str(pieces.strongest(tokens)).strip("\n"),
            question=str(pieces.question).strip(),
            examples=tuple(_example(fields) for fields in pieces.examples),
            numbered=(
                (lambda tokens, n: str(pieces.numbered(tokens, n)).strip("\n"))
                if hasattr(pieces, "numbered")
                else None
            ),
        )


def _example(fields: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    return tuple(str(token) for token in fields["tokens"]), str(fields["explanation"])


class TokenActivationPairs:
    r"""Token, tab, level, for the windows on which the unit is most active.

    level = min(10, floor(10 · relu(x) / max)), max over the whole `explain` split. The windows are
    repeated without the zeros where fewer than a fifth of the levels are not zero. Windows of
    different documents come first. The strongest tokens are named by themselves in the question.

    One answer may hold several explanations as a numbered list (`n_explanations`), and several
    answers may be sampled (`n_samples`): the first that can be read is the explanation, all are
    kept as `candidates` in its details.
    """

    needs_llm = True

    def __init__(
        self,
        name: str = "token_activation_pairs",
        *,
        n_windows: int = 5,
        max_new_tokens: int = 40,
        temperature: float = 0.0,
        seed: int = 0,
        n_samples: int = 1,
        n_explanations: int = 1,
        language: str | None = None,
        prompt: str | None = None,
    ) -> None:
        """Set it up.

        Args:
            name: as in the config.
            n_windows: most windows shown.
            max_new_tokens: longest explanation.
            temperature: 0 for the likeliest answer.
            seed: of the sampling, together with the unit.
            n_samples: answers to the same question; more than 1 need a temperature above 0.
            n_explanations: explanations in one answer, as a numbered list where more than 1.
            language: that explanations are written in; what the template is in if `None`.
            prompt: name of a template, or the path of a `.j2` file.

        Raises:
            UsageError: for a language that is none, or samples that would all be the same.
            AutointerpError: where the template cannot be used.
        """
        self.name = name
        self.n_windows = n_windows
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.seed = seed
        self.n_samples = checked_samples(name, n_samples, temperature)
        self.n_explanations = n_explanations
        self.language = checked_language(name, language)
        self.prompt = load_prompt(prompt or "explain_token_activation_pairs")
        if n_explanations > 1 and self.prompt.numbered is None:
            raise AutointerpError(
                f"prompt {prompt!r} cannot ask for {n_explanations} explanations: it must define "
                "numbered(tokens, n)"
            )
        self.fingerprint = content_key(
            "explainer",
            type="token_activation_pairs",
            version=_VERSION,
            prompt=self.prompt.digest,
            n_windows=n_windows,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed if temperature > 0 else 0,
            n_samples=n_samples,
            n_explanations=n_explanations,
            language=language,
        )

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Ask for a short phrase. See `Explainer.explain`."""
        unexplained = dead(view, self.name, key)
        if unexplained is not None:
            return unexplained
        shown = chosen_windows(view.records, self.n_windows)
        if not shown:
            reason = "the explain split holds no window in which the unit is active"
            return Explanation(view.unit, self.name, None, Status.INSUFFICIENT_DATA, key, reason)
        responses = yield [self.request(view, shown, sample) for sample in range(self.n_samples)]
        question = self.prompt.strongest(
            strongest_tokens([_window(r, view.maximum) for r in shown])
        )
        examples = [(self.prompt.strongest(tokens), text) for tokens, text in self.prompt.examples]
        readings = [
            [own_words(reading, question, examples) for reading in self._read(response)]
            for response in responses
        ]
        details = details_of_answers(readings, responses)
        details["sequences"] = [record.window.sequence_id for record in shown]
        text, reason = first_readable([reading for found in readings for reading in found])
        status = Status.FAILED if text is None else Status.OK
        return Explanation(view.unit, self.name, text, status, key, reason, details)

    def request(
        self, view: ExplainView, shown: Sequence[ActivationRecord], sample: int = 0
    ) -> Request:
        """The question about a unit, with the windows that are to be shown."""
        windows = [_window(record, view.maximum) for record in shown]
        messages = [
            Message("system", self.prompt.instructions + asked_language(self.language)),
            Message("user", self._table(windows)),
            Message("assistant", self.prompt.read),
        ]
        for tokens, explanation in self.prompt.examples:
            messages += [
                Message("user", self._question(tokens, 1)),
                Message(
                    "assistant", f"1. {explanation}" if self.n_explanations > 1 else explanation
                ),
            ]
        question = self._question(strongest_tokens(windows), self.n_explanations)
        messages.append(Message("user", question))
        sampled = self.temperature > 0
        return Request(
            messages=tuple(messages),
            max_tokens=self.max_new_tokens * self.n_explanations,
            temperature=self.temperature,
            sample=sample,
            seed=derived_seed(self.seed, "explain", view.unit) if sampled else 0,
            purpose="explain",
        )

    def _table(self, windows: Sequence[Window]) -> str:
        levels = [level for window in windows for _, level in window]
        n_active = sum(level > 0 for level in levels)
        active: list[Window] = []
        if n_active < SPARSE_SHARE * len(levels):
            active = [[pair for pair in window if pair[1] > 0] for window in windows]
        return self.prompt.table(windows, [window for window in active if window])

    def _question(self, tokens: Sequence[str], n: int) -> str:
        if self.n_explanations > 1 and self.prompt.numbered is not None:
            return self.prompt.numbered(tokens, n)
        return self.prompt.strongest(tokens)

    def _read(self, response: Response) -> list[Reading]:
        """The explanations in an answer, or the reason why it holds none."""
        asked = f"{self.prompt.instructions}\n{self.prompt.question}"
        if self.n_explanations == 1 or not response.text:
            return [read_answer(response, asked)]
        items = numbered_items(response.text)[: self.n_explanations]
        last = len(items) - 1
        return [
            # Of a truncated list only the last item was cut off.
            read_answer(
                replace(response, text=item)
                if place == last
                else replace(response, text=item, status=ResponseStatus.OK),
                asked,
            )
            if response.status in (ResponseStatus.OK, ResponseStatus.TRUNCATED)
            else read_answer(response, asked)
            for place, item in enumerate(items)
        ] or [(None, "the answer holds no numbered list")]


def numbered_items(answer: str) -> list[str]:
    """The items of a numbered list: what follows `1.`, `2.`, … at the beginning of a line."""
    starts = list(_ITEM.finditer(answer))
    ends = [*(match.start() for match in starts), len(answer)][1:]
    return [answer[match.end() : end] for match, end in zip(starts, ends, strict=True)]


def chosen_windows(records: Sequence[ActivationRecord], n: int) -> list[ActivationRecord]:
    """The `n` most active windows, each document's best before any document's second."""
    active = sorted(
        (record for record in distinct(records) if record.maximum > 0),
        key=lambda record: (-record.maximum, record.window),
    )
    rounds: dict[str, int] = {}
    ranked: list[tuple[int, int, ActivationRecord]] = []
    for place, record in enumerate(active):
        earlier = rounds.get(record.document_id, 0)
        rounds[record.document_id] = earlier + 1
        ranked.append((earlier, place, record))
    return [record for *_, record in sorted(ranked, key=lambda item: item[:2])[:n]]


def strongest_tokens(windows: Sequence[Window]) -> list[str]:
    """The distinct tokens with at least half of the highest level shown, strongest first."""
    best: dict[str, int] = {}
    for token, level in (pair for window in windows for pair in window):
        word = (token.strip() or token).replace('"', '\\"')
        best[word] = max(level, best.get(word, 0))
    top = max(best.values(), default=0)
    ranked = sorted(best, key=lambda word: -best[word])
    return [word for word in ranked if best[word] > 0 and 2 * best[word] >= top][:N_STRONGEST]


def _window(record: ActivationRecord, maximum: float) -> Window:
    levels = normalise_levels(record.activations, maximum)
    return [
        (shown_token(token), 0 if masked else int(level))
        for token, level, masked in zip(record.tokens, levels, record.masked, strict=True)
    ]
