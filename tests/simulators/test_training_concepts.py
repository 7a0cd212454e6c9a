"""What the embedded simulator is trained on: nothing that a known answer tests."""

import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from autointerp import resources


@pytest.fixture(scope="module")
def builder() -> Iterator[dict[str, ModuleType]]:
    """The modules of datasets/simulator, which is no package."""
    folder = str(resources.path("datasets/simulator"))
    sys.path.insert(0, folder)
    try:
        import concepts
        import conditions
        import known

        yield {"concepts": concepts, "conditions": conditions, "known": known}
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def known(builder):
    return builder["known"].KnownConcepts()


SAME = (
    ("the equality sign", r"=", "equals_sign"),
    ("two numbers with a colon, such as a verse or a time", r"\d+:\d+", "clock_times"),
    ("words with the suffix -tion", r"\b[^\W\d_]+tion\b", "tion"),
    ("adverbs", r"\b\w+ly\b", "ly"),
    ("what follows the definite article", r"(?i)\bthe\s+([^\W\d_]+)", "after_the"),
    ("direct speech", r"\"([^\"]+)\"", "quotation"),
    ('the word "and"', r"nowhere", "and"),
    ("the first token of the text", r"nowhere", "first_token"),
)
"""Description, rule, and the known answer that it is; other words, or a rule that never fires."""


@pytest.mark.parametrize(("text", "expression", "name"), SAME)
def test_the_concept_of_a_known_answer_is_refused(builder, known, text, expression, name) -> None:
    c = builder["concepts"]
    covered = known.covered_by(c.Concept("x", c.matches(expression), (text,)), text)
    assert covered is not None
    assert covered.name == name


def test_masked_words_count_as_what_the_description_means(builder, known) -> None:
    c = builder["concepts"]
    family = frozenset(["father", "mother", "daughter", "brother", "sister", "wife", "child"])
    concept = c.Concept("category", c.from_forms(frozenset(), family), ("relations",))
    assert known.covered_by(concept, "relations").name in ("family", "relatives_but_son")


def test_nothing_is_trained_on_a_hidden_word_whether_a_concept_fires_there_or_not(builder) -> None:
    c = builder["concepts"]
    texts = ("the Dog saw", " a", " cat", " and a doghouse")
    ends = np.cumsum([len(text) for text in texts])
    window = c.Window("".join(texts), ends - [len(text) for text in texts], ends, "prose")
    for expression in ("Dog", "saw", "cat|house"):
        plain = c.Concept("x", c.matches(expression), ("x",))
        found = c.hidden(plain, frozenset(["dog", "cat"])).rule(window)
        assert np.array_equal(np.isnan(found), [True, False, True, False])
        assert np.array_equal(found[[1, 3]], plain.rule(window)[[1, 3]])


def test_other_concepts_are_trained_on(builder, known) -> None:
    c = builder["concepts"]
    for text, expression in (("words ending in -ness", r"\w+ness\b"), ("colons", ":")):
        assert known.covered_by(c.Concept("x", c.matches(expression), (text,)), text) is None


def test_a_narrow_concept_fires_on_a_part_of_the_wide_one(builder, known) -> None:
    c, k = builder["concepts"], builder["conditions"]
    rng = np.random.default_rng(0)
    words = ["people", "make", "great", "house"]
    made = [k.narrowed(rng, c.affix(rng), words) for _ in range(30)]
    made += [k.conjunction(rng) for _ in range(30)]
    made += [k.one_of(rng, c.closed_class(rng)) for _ in range(10)]
    for narrow, wide in made:
        for window in known.windows[::5]:
            assert np.all(narrow.rule(window) <= wide.rule(window))
