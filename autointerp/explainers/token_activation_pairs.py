"""Asks a language model, showing it tokens with their activations (Bills et al. 2023)."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from autointerp import resources
from autointerp.explainers.base import Explaining, ExplainView, dead
from autointerp.explainers.words import NotAnExplanationError, parse_explanation, shown_token
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

_VERSION = 1
"""Raise when the same view and template give another request or another reading of its answer."""

SPARSE_SHARE = 0.2
"""Below this share of non-zero levels the windows are repeated without the zeros."""

N_STRONGEST = 12
"""Most tokens that are named by themselves."""

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


def load_prompt(name: str) -> ExplainPrompt:
    """Read an explanation prompt.

    Args:
        name: of a template in `prompts/`, or the path of a `.j2` file.

    Raises:
        AutointerpError: where there is no such template, or it lacks a piece.
    """
    file = Path(name) if name.endswith(".j2") else resources.path(f"prompts/{name}.j2")
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AutointerpError(f"prompt {name!r} cannot be read: {error}") from error
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    try:
        pieces: Any = environment.from_string(source).module
        return ExplainPrompt(
            digest=hashlib.blake2b(source.encode(), digest_size=16).hexdigest(),
            instructions=str(pieces.instructions).strip(),
            table=lambda windows, active: str(pieces.table(windows, active)).strip("\n"),
            read=str(pieces.read).strip(),
            strongest=lambda tokens: str(pieces.strongest(tokens)).strip("\n"),
            question=str(pieces.question).strip(),
            examples=tuple(_example(fields) for fields in pieces.examples),
        )
    except (jinja2.TemplateError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise AutointerpError(
            f"prompt {name!r} is not an explanation prompt: {error}; it must define instructions, "
            "table(windows, active), read, question, strongest(tokens) and examples"
        ) from error


def _example(fields: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    return tuple(str(token) for token in fields["tokens"]), str(fields["explanation"])


class TokenActivationPairs:
    r"""Token, tab, level, for the windows on which the unit is most active.

    level = min(10, floor(10 · relu(x) / max)), max over the whole `explain` split. The windows are
    repeated without the zeros where fewer than a fifth of the levels are not zero. Windows of
    different documents come first. The strongest tokens are named by themselves in the question.
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
        prompt: str = "explain_token_activation_pairs",
    ) -> None:
        """Set it up.

        Args:
            name: as in the config.
            n_windows: most windows shown.
            max_new_tokens: longest answer.
            temperature: 0 for the likeliest answer.
            seed: of the sampling, together with the unit.
            prompt: name of a template, or the path of a `.j2` file.

        Raises:
            AutointerpError: where the template cannot be used.
        """
        self.name = name
        self.n_windows = n_windows
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.seed = seed
        self.prompt = load_prompt(prompt)
        self.fingerprint = content_key(
            "explainer",
            type="token_activation_pairs",
            version=_VERSION,
            prompt=self.prompt.digest,
            n_windows=n_windows,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed if temperature > 0 else 0,
        )

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Ask once for a short phrase. See `Explainer.explain`."""
        unexplained = dead(view, self.name, key)
        if unexplained is not None:
            return unexplained
        shown = chosen_windows(view.records, self.n_windows)
        if not shown:
            reason = "the explain split holds no window in which the unit is active"
            return Explanation(view.unit, self.name, None, Status.INSUFFICIENT_DATA, key, reason)
        (response,) = yield [self.request(view, shown)]
        details = {
            "answer": response.text,
            "usage": asdict(response.usage),
            "model": response.model,
            "sequences": [record.window.sequence_id for record in shown],
        }
        try:
            text = self._read(response)
        except NotAnExplanationError as error:
            return Explanation(view.unit, self.name, None, Status.FAILED, key, str(error), details)
        return Explanation(view.unit, self.name, text, Status.OK, key, details=details)

    def request(self, view: ExplainView, shown: Sequence[ActivationRecord]) -> Request:
        """The question about a unit, with the windows that are to be shown."""
        windows = [_window(record, view.maximum) for record in shown]
        messages = [
            Message("system", self.prompt.instructions),
            Message("user", self._table(windows)),
            Message("assistant", self.prompt.read),
        ]
        for tokens, explanation in self.prompt.examples:
            messages += [
                Message("user", self.prompt.strongest(tokens)),
                Message("assistant", explanation),
            ]
        messages.append(Message("user", self.prompt.strongest(strongest_tokens(windows))))
        sampled = self.temperature > 0
        return Request(
            messages=tuple(messages),
            max_tokens=self.max_new_tokens,
            temperature=self.temperature,
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

    def _read(self, response: Response) -> str:
        if response.text is None or response.status not in (
            ResponseStatus.OK,
            ResponseStatus.TRUNCATED,
        ):
            reason = response.reason or "nothing else is known"
            raise NotAnExplanationError(f"the model's answer is {response.status}: {reason}")
        truncated = response.status is ResponseStatus.TRUNCATED
        asked = f"{self.prompt.instructions}\n{self.prompt.question}"
        return parse_explanation(response.text, asked, truncated=truncated)


def chosen_windows(records: Sequence[ActivationRecord], n: int) -> list[ActivationRecord]:
    """The `n` most active windows, each document's best before any document's second."""
    active = sorted(
        (record for record in records if record.maximum > 0),
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
