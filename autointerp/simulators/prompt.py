"""Simulation prompts: one Jinja template gives the pieces that become token ids one by one.

A template is imported as a module (nothing outside its macros is rendered) and defines

| name | kind | meaning |
|---|---|---|
| `opening(top)` | macro | what stands before everything; `top` is the highest level |
| `unit(explanation)` | macro | the start of a unit: its explanation |
| `sequence(text)` | macro | the start of a sequence, given its whole text; may leave it out |
| `token(text)` | macro | one token of the sequence, up to its level |
| `mark` | string | follows the token; the level is predicted after it; may be empty |
| `unknown` | string | stands where the level would, in the sequence to simulate; may be empty |
| `separator` | string | follows every level |
| `text_before_unit` | boolean | whether a sequence's start stands before the unit's |
| `branches` | boolean | whether tokens to simulate stand side by side, each as if it were the first |
| `closing` | string | follows the last token of an example |
| `examples` | list | the few-shot: `{explanation, tokens: [(text, level), …], hidden, text}`; the first `hidden` levels are shown as `unknown`; `text` where the tokens are not all of it |

Every piece is tokenised by itself, so nothing in a corpus token can reach across its borders.

With `branches`, no placeholder is needed: each token sees the few-shot, the explanation and the
sequence's start, but no other token of the list.
"""  # noqa: E501

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from autointerp.records import AutointerpError
from autointerp.templates import guarded, read_template


@dataclass(frozen=True)
class Example:
    """One unit of the few-shot, with its true levels on one sequence."""

    explanation: str
    tokens: tuple[str, ...]
    levels: tuple[int, ...]
    """[n_tokens] levels from 0 to 10."""

    hidden: int
    """Levels of this many leading tokens are shown as `unknown`, as all are in the target."""

    text: str


@dataclass(frozen=True)
class SimulationPrompt:
    """The pieces of one simulation prompt; see the module's table."""

    name: str
    digest: str
    """Hash of the template's source."""

    opening: Callable[[int], str]
    unit: Callable[[str], str]
    sequence: Callable[[str], str]
    token: Callable[[str], str]
    mark: str
    unknown: str
    separator: str
    text_before_unit: bool
    branches: bool
    closing: str
    examples: tuple[Example, ...]

    def start(self, explanation: str, text: str) -> tuple[str, str]:
        """The two pieces before the first token: the head, which rows may share, and the rest."""
        unit, sequence = self.unit(explanation), self.sequence(text)
        return (sequence, unit) if self.text_before_unit else (unit, sequence)


def load_prompt(name: str) -> SimulationPrompt:
    """Read a simulation prompt.

    Args:
        name: `simulate_text_first`, `simulate_tab_unknown`, or the path of a `.j2` file.

    Raises:
        AutointerpError: where there is no such template, or it lacks a piece.
    """
    with guarded(
        name,
        "is not a simulation prompt",
        "autointerp/simulators/prompt.py lists what it must define",
    ):
        template = read_template(name)
        pieces = template.pieces
        prompt = SimulationPrompt(
            name=template.name,
            digest=template.digest,
            opening=pieces.opening,
            unit=pieces.unit,
            sequence=pieces.sequence,
            token=pieces.token,
            mark=pieces.mark,
            unknown=pieces.unknown,
            separator=pieces.separator,
            text_before_unit=pieces.text_before_unit,
            branches=pieces.branches,
            closing=pieces.closing,
            examples=tuple(_example(fields) for fields in pieces.examples),
        )
    head, rest = prompt.start("", "")
    if not head or not (prompt.mark or (rest and not prompt.branches)):
        raise AutointerpError(
            f"prompt {name!r} leaves nothing to read a level after: its start must not be empty, "
            "and its mark only where something stands between the start and the first token"
        )
    return prompt


def _example(fields: dict[str, Any]) -> Example:
    pairs: Sequence[tuple[str, int]] = fields["tokens"]
    return Example(
        explanation=fields["explanation"],
        tokens=tuple(text for text, _ in pairs),
        levels=tuple(int(level) for _, level in pairs),
        hidden=int(fields.get("hidden", 0)),
        text=fields.get("text", "".join(text for text, _ in pairs)),
    )
