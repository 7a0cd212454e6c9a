"""The planted units: which words they stand out on, and what is said of them.

Most are written by the embedding: along the unit's direction a word's embedding has the strength
given here. One is written by attention (`share`), one by an MLP neuron (`both`), and the last ones
by nothing at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "token", "set", "graded", "signed", "or", "hierarchy", "long_range", "and", "dense",
    "constant", "zero",
]  # fmt: skip

STRONG = 3.0
"""Strength of a word that a unit simply stands out on."""


@dataclass(frozen=True)
class PlantedUnit:
    """One planted direction."""

    name: str
    kind: Kind
    explanation: str
    """True of the unit's positive side."""

    strengths: Mapping[str, float] = field(default_factory=dict[str, float])
    """Word → strength of its embedding along the direction; negative: the other side."""

    writes: tuple[str, ...] = ()
    """Words whose logits are read off along the direction."""

    other_side: str = ""
    """True of the negative side, where there is one."""


def _words(text: str, strength: float = STRONG) -> dict[str, float]:
    return {f" {word}": strength for word in text.split()}


ANIMALS = _words("dog cat horse bird sheep goat")
SEA = _words("ship sail harbour anchor wave tide")
CHAIRS = _words("chair stool bench sofa")
FURNITURE = _words("table desk shelf bed")
COLOURS = _words("red blue green yellow black white")
TOOLS = _words("hammer drill knife wheel rope saw")
FOOD = _words("bread rice cheese soup")
FAMILY = _words("mother father sister brother")
HEAT = _words("hot warm burning boiling") | _words("cold cool icy frozen", -STRONG)
WEATHER = {" breeze": 1.0, " rain": 2.0, " snow": 3.0, " storm": 4.0, " hurricane": 5.0}
THE = _words("the")

FILLERS = tuple(
    f" {word}"
    for word in [
        "we",
        "saw",
        "there",
        "was",
        "nobody",
        "knows",
        "this",
        "at",
        "noon",
        "some",
        "they",
        "had",
        "near",
        "gate",
        "and",
        "then",
        "of",
        "in",
        "on",
        "it",
        "with",
        "for",
        "as",
        "by",
        "from",
        "one",
        "two",
        "old",
        "new",
        "long",
        "small",
        "every",
        "while",
        "after",
        "before",
        "under",
        "over",
        "near",
        "road",
        "house",
        "town",
        "river",
        "hill",
        "stone",
        "door",
        "day",
        "night",
    ]
)
"""Words that no unit stands out on but `the` and the dense one."""

_DENSE = dict.fromkeys(sorted(set(FILLERS))[::2], 2.0)


def _written(strengths: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(word for word, strength in strengths.items() if strength > 0)


UNITS: tuple[PlantedUnit, ...] = (
    PlantedUnit("the", "token", 'the word "the"', THE, _written(THE)),
    PlantedUnit("animals", "set", "animals", ANIMALS, _written(ANIMALS)),
    PlantedUnit("colours", "set", "colours", COLOURS, _written(COLOURS)),
    PlantedUnit("tools", "set", "tools", TOOLS, _written(TOOLS)),
    PlantedUnit("sea", "set", "ships and the sea", SEA, _written(SEA)),
    PlantedUnit(
        "weather", "graded", "weather, the more the wilder it is", WEATHER, _written(WEATHER)
    ),
    PlantedUnit("heat", "signed", "heat", HEAT, _written(HEAT), "cold"),
    PlantedUnit("food or family", "or", "food, or members of a family", FOOD | FAMILY,
                _written(FOOD | FAMILY)),
    PlantedUnit("furniture", "hierarchy", "furniture that is not for sitting", FURNITURE,
                _written(FURNITURE)),
    PlantedUnit("chairs", "hierarchy", "furniture for sitting", CHAIRS, _written(CHAIRS)),
    PlantedUnit("share of sea", "long_range", "much of the text so far is about ships and the sea"),
    PlantedUnit("both", "and", "animals after words about ships and the sea"),
    PlantedUnit("dense", "dense", "about every second one of the common words", _DENSE),
    PlantedUnit("constant", "constant", "every word"),
    *(PlantedUnit(f"silent {i}", "zero", "nothing") for i in range(6)),
)  # fmt: skip
"""All planted units; a unit's place is its index in the source of directions."""

INDEX = {unit.name: place for place, unit in enumerate(UNITS)}
CONSTANT_LEVEL = 1.0
"""Along the constant unit's direction, for every token."""

GATE, SOURCE = "animals", "sea"
"""`share of sea` is fed by the second; `both` is the first, times that share."""


def all_words() -> tuple[str, ...]:
    """Every word that a unit or a text has, once."""
    named = [word for unit in UNITS for word in unit.strengths]
    return tuple(dict.fromkeys((*FILLERS, *named)))
