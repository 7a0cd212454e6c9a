"""What the known-answer suite tests, so that no training concept is the same or nearly so.

Two concepts are the same where they say the same (`SAME_WORDS`) or fire on the same tokens
(`SAME_LEVELS`), measured on the suite's own windows: both are looked at, since a description of
other words may define the same tokens, and a rule that never fires there may be said the same way.
"""

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import concepts as c
import numpy as np

from autointerp.analysis.known_answers import known_answers

SAME_LEVELS = 0.7
"""Pooled correlation with a known answer's activations from which a concept is the same."""

SAME_WORDS = 0.8
"""Shared part of all content words from which a description says the same."""

N_PROBE = 1
"""Windows of every unit in which it fires; it is silent in most of the other units'."""

FRAME_WORDS = frozenset(
    "a an the of or and to in on with such as that this these it is are be word words token tokens "
    "mention mentions reference references term terms related phrase phrases about unit respond "
    "responds fire fires activate activates active refer refers like any all text written writing "
    "names name occurrence occurrences for example what whatever comes right".split()
)
"""Words that say nothing of what a description is about."""

PLAIN_WORDS = frozenset(
    "the and of return if else elif def func function class import const static void struct while "
    "switch case break var self none nil null son unto".split()
)
"""Words that are a known answer, or a part of one, by themselves: no word list has them."""


def load_rules() -> Any:
    """The module `datasets/known_answers/rules.py`, which is no package."""
    path = Path(__file__).resolve().parent.parent / "known_answers" / "rules.py"
    spec = importlib.util.spec_from_file_location("known_answer_rules", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def content_words(text: str) -> frozenset[str]:
    """What a description is about, as a set; what is quoted counts whatever it is."""
    quoted = re.findall(r"\"[^\"]+\"", text.lower())
    found = re.findall(r"[^\W_]+|[^\w\s\"',.;:()-]", re.sub(r"\"[^\"]+\"", " ", text.lower()))
    return frozenset(w.removesuffix("s") for w in found if w not in FRAME_WORDS) | {*quoted}


@dataclass(frozen=True)
class Covered:
    """A known answer that a training concept would give away."""

    name: str
    reason: str


class KnownConcepts:
    """The concepts that are tested, and where they fire."""

    def __init__(self) -> None:
        """Read the suite; windows are of its `explain` split, which no benchmark scores."""
        rules = load_rules()
        answers = {a.unit: a for a in known_answers("explain")}
        probed: dict[tuple[str, ...], None] = {}
        for answer in answers.values():
            fires = [bool(np.any(truth > 0)) for truth in answer.truth]
            active = [t for t, fire in zip(answer.tokens, fires, strict=True) if fire]
            probed |= dict.fromkeys(active[:N_PROBE])
        self.windows = [_window(tokens) for tokens in probed]
        self.names: list[str] = []
        self.words: list[frozenset[str]] = []
        rows: list[np.ndarray] = []
        for place, planted in enumerate(rules.PLANTED):
            if planted.kind not in rules.READABLE:
                continue
            self.words.append(content_words(answers[f"known/{place}"].explanations["true"]))
            self.names.append(planted.name)
            views = [rules.View(tokens) for tokens in probed]  # kinds of document: by words alone
            rows.append(np.concatenate([planted.true.rule(view) for view in views]))
        self.truth = _standard(np.array(rows))

    def covered_by(self, concept: c.Concept, description: str) -> Covered | None:
        """The known answer that this training concept or its description is, if there is one."""
        said = content_words(description)
        for name, words in zip(self.names, self.words, strict=True):
            if words and len(said & words) >= SAME_WORDS * len(said | words):
                return Covered(name, f"says the same: {description!r}")
        levels = np.concatenate([concept.rule(window) for window in self.windows])
        if np.all(levels == c.ABSTAIN):
            return None
        # What is masked is masked because the description means it.
        levels = np.nan_to_num(levels, nan=c.STRONG)
        shared = self.truth @ _standard(levels[None])[0]
        best = int(np.argmax(shared))
        if shared[best] < SAME_LEVELS:
            return None
        return Covered(self.names[best], f"correlation {shared[best]:.2f}: {description!r}")


def _window(tokens: tuple[str, ...]) -> c.Window:
    ends = np.cumsum([len(token) for token in tokens])
    starts = ends - np.array([len(token) for token in tokens])
    return c.Window("".join(tokens), starts, ends, "")


def _standard(rows: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and norm 1; constant ones are 0."""
    centred = rows - rows.mean(1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
