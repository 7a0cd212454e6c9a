"""Which windows an explainer shows, and how their text is written in a prompt.

A window is always written on one line: controls and line breaks are escaped, so the end of the line
is a fence that no token can pass. Delimiters that the corpus itself holds are escaped too, and so
is the marker that stands before a final answer.
"""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from autointerp.explainers.base import ExplainView
from autointerp.explainers.words import shown_token
from autointerp.records import ActivationRecord, Strata, derived_seed
from autointerp.stats import normalise_levels

Sampling = Literal["interval", "decile", "top"]
"""How active windows are chosen: equal numbers per value interval or per tenth of their ranks, or
the most active."""

N_GROUPS = 10
"""Value intervals, and tenths of the ranks."""

HIGHLIGHT_SHARE = 0.3
"""A token is highlighted above this share of its window's maximum (Paulo et al. 2024)."""

OPEN, CLOSE = "<<", ">>"

MARKER = "[EXPLANATION]:"
"""What an answer's last part begins with, where it may hold more than the explanation."""

N_VALUES = 11
"""Most tokens of a window whose values are listed (Paulo et al. 2024)."""

_DELIMITER = re.compile(r"<(?=<)|(?<=<)<|>(?=>)|(?<=>)>")
_AT_EDGES = re.compile(rf"{_DELIMITER.pattern}|\A[<>]|[<>]\Z")
_MARKER = re.compile(r"\[(?=EXPLANATION)", re.IGNORECASE)


def active(view: ExplainView) -> list[ActivationRecord]:
    """The windows of a view in which the unit is active on a token that is not masked."""
    return [record for record in distinct(view.records) if unmasked_maximum(record) > 0]


def distinct(records: Sequence[ActivationRecord]) -> list[ActivationRecord]:
    """Records of different windows: a random window may also have been drawn for its stratum."""
    return list({record.window: record for record in reversed(records)}.values())[::-1]


def unmasked_maximum(record: ActivationRecord) -> float:
    """Largest activation on a token that is not masked."""
    return float(visible(record).max(initial=0.0))


def visible(record: ActivationRecord) -> np.ndarray:
    """[n_tokens] activations, 0 where masked."""
    return np.where(record.masked, 0.0, record.activations)


def sampled(
    view: ExplainView,
    windows: Sequence[ActivationRecord],
    n: int,
    sampling: Sampling,
    seed: int,
) -> list[ActivationRecord]:
    """At most `n` of some active windows, spread over the range of their maxima.

    Groups take turns, the most active first, until `n` are chosen or none is left, so a small `n`
    is never rounded down to nothing. Within a group windows come in a random order that depends on
    `seed` and the unit alone, each document's first before any document's second.

    Args:
        view: gives the maximum of the unit's range and the seed of its draws.
        windows: active ones.
        n: most windows.
        sampling: `interval`: groups are the value intervals (j-1)/10 < m/E <= j/10 (Bricken et al.
            2023); `decile`: tenths of the windows by rank (Paulo et al. 2024); `top`: no groups,
            by descending maximum.
        seed: the run's.

    Returns:
        Windows, the most active first.
    """
    ranked = sorted(windows, key=lambda record: (-unmasked_maximum(record), record.window))
    if sampling == "top":
        return documents_in_turn(ranked)[:n]
    groups: list[list[ActivationRecord]] = [[] for _ in range(N_GROUPS)]
    for place, record in enumerate(ranked):
        if sampling == "decile":
            groups[place * N_GROUPS // len(ranked)].append(record)
        else:
            groups[N_GROUPS - interval_of(record, view.maximum)].append(record)
    queues = [documents_in_turn(shuffled(view, group, seed, sampling)) for group in groups]
    chosen: list[ActivationRecord] = []
    for turn in range(max(map(len, queues), default=0)):
        chosen += [queue[turn] for queue in queues if turn < len(queue)]
    return sorted(chosen[:n], key=lambda record: (-unmasked_maximum(record), record.window))


def interval_of(record: ActivationRecord, maximum: float) -> int:
    """The value interval of a window's maximum, from 1 to 10 (`recording.design`)."""
    share = N_GROUPS * unmasked_maximum(record) / maximum
    return min(N_GROUPS, max(1, -int(-share // 1)))


def shuffled(
    view: ExplainView, windows: Sequence[ActivationRecord], seed: int, *purpose: str
) -> list[ActivationRecord]:
    """Windows in a random order that depends on nothing but seed, unit and purpose."""
    ordered = sorted(windows, key=lambda record: record.window)
    generator = np.random.default_rng(derived_seed(seed, "windows", view.unit, *purpose))
    return [ordered[place] for place in generator.permutation(len(ordered))]


def documents_in_turn(windows: Sequence[ActivationRecord]) -> list[ActivationRecord]:
    """The same windows, each document's first before any document's second."""
    rounds: dict[str, int] = {}
    turns: list[int] = []
    for record in windows:
        turns.append(rounds.get(record.document_id, 0))
        rounds[record.document_id] = turns[-1] + 1
    order = sorted(range(len(windows)), key=lambda place: turns[place])
    return [windows[place] for place in order]


def silent_windows(
    view: ExplainView, strata: Sequence[str], n: int, seed: int
) -> list[ActivationRecord]:
    """At most `n` windows of some strata in which recording found the unit silent."""
    found = [
        record
        for record in distinct(view.records)
        if record.stratum in strata and unmasked_maximum(record) <= silent_bound(view)
    ]
    return documents_in_turn(shuffled(view, found, seed, *strata))[:n]


def silent_bound(view: ExplainView) -> float:
    """Up to here a window is silent: 1 % of the unit's maximum (`recording.design`)."""
    return 0.01 * view.maximum


def line(tokens: Sequence[str]) -> str:
    """Tokens as a prompt shows them: on one line, without anything that could be a delimiter."""
    return escaped("".join(shown_token(token) for token in tokens)).strip()


def escaped(text: str) -> str:
    r"""A text whose `<<`, `>>` and answer markers are no longer any: a backslash stands in them."""
    return _MARKER.sub(r"\\[", _DELIMITER.sub(lambda match: "\\" + match[0], text))


def highlighted(record: ActivationRecord, share: float = HIGHLIGHT_SHARE) -> str:
    """A window's text on one line; runs of tokens above `share` of its maximum are delimited."""
    found = visible(record)
    return highlighted_where(record.tokens, found > share * found.max(initial=0.0))


def highlighted_where(tokens: Sequence[str], strong: np.ndarray) -> str:
    """Tokens on one line; runs of strong ones stand between `<<` and `>>`.

    A run's leading spaces are left outside.

    Args:
        tokens: [n_tokens] their texts.
        strong: [n_tokens] bool.
    """
    parts: list[str] = []
    start = 0
    for stop in range(1, len(strong) + 1):
        if stop == len(strong) or strong[stop] != strong[start]:
            text = "".join(shown_token(token) for token in tokens[start:stop])
            parts.append(_delimited(text) if strong[start] else _edges_escaped(text))
            start = stop
    return "".join(parts).strip()


def around_strongest(record: ActivationRecord, before: int, after: int) -> slice:
    """Places of a window from `before` tokens before its strongest token to `after` behind it."""
    peak = int(visible(record).argmax())
    return slice(max(0, peak - before), min(len(record.tokens), peak + after + 1))


def _delimited(text: str) -> str:
    kept = text.lstrip(" ")
    space = text[: len(text) - len(kept)]
    # A token of spaces alone is shown as it is.
    return f"{OPEN}{text}{CLOSE}" if not kept else f"{space}{OPEN}{_edges_escaped(kept)}{CLOSE}"


def _edges_escaped(text: str) -> str:
    """Escaped, angle brackets at the ends too: a delimiter may stand beside them."""
    return _MARKER.sub(r"\\[", _AT_EDGES.sub(lambda match: "\\" + match[0], text))


def values(record: ActivationRecord, maximum: float, n: int = N_VALUES) -> list[tuple[str, int]]:
    """The strongest tokens of a window with their levels from 1 to 10, in the text's order.

    level = floor(10 · relu(x) / max), at least 1 for a token that is listed: those above
    `HIGHLIGHT_SHARE` of the window's maximum, `n` at most. Words of letters alone are bare, all
    other tokens stand in quotation marks: a comma or a digit would be taken for the list's own.
    """
    found = visible(record)
    levels = np.maximum(1, normalise_levels(found, maximum))
    strong = np.flatnonzero(found > HIGHLIGHT_SHARE * found.max(initial=0.0))
    kept = sorted(sorted(strong, key=lambda place: -found[place])[:n])
    return [(_listed(record.tokens[place]), int(levels[place])) for place in kept]


def _listed(token: str) -> str:
    word = token_word(token)
    return word if word.isalpha() else f'"{word}"'


def token_word(token: str) -> str:
    r"""A token by itself, as a quotation holds it: `\"` for its own quotation marks."""
    return escaped(shown_token(token.strip() or token)).replace('"', '\\"')


def details_of(windows: Sequence[ActivationRecord]) -> list[str]:
    """The sequences that windows come from, for an explanation's details."""
    return [record.window.sequence_id for record in windows]


SILENT = (Strata.SILENT, Strata.RANDOM)
"""Strata of windows that nothing but chance brought in."""
