"""The simulation prompts, word for word: a change of one must be meant, and changes every key.

After a change that is meant, `python -m tests.simulators.test_prompts` writes the snapshots anew.
"""

from pathlib import Path

import pytest

from autointerp.simulators.prompt import load_prompt

FORMS = ("simulate_text_first", "simulate_text_inline", "simulate_tab_unknown")
SNAPSHOTS = Path(__file__).parent / "snapshots"
TOKENS = ["The", " dog", "\t", "\n", " unknown", " 10", "\ufffd"]


def written_out(name):
    """The whole prompt for a unit and a sequence, the slots shown as ⟦slot⟧."""
    prompt = load_prompt(name)
    parts = [prompt.opening(9)]
    for example in prompt.examples:
        parts += prompt.start(example.explanation, example.text)
        for place, (token, level) in enumerate(zip(example.tokens, example.levels, strict=True)):
            shown = prompt.unknown if place < example.hidden else str(level)
            parts += [prompt.token(token), prompt.mark, shown, prompt.separator]
        parts.append(prompt.closing)
    parts += prompt.start("words for animals", "".join(TOKENS))
    for token in TOKENS:
        parts += [prompt.token(token), prompt.mark, "⟦slot⟧", prompt.unknown, prompt.separator]
    return "".join(parts)


@pytest.mark.parametrize("form", FORMS)
def test_prompts_are_what_they_were(form):
    assert written_out(form) == (SNAPSHOTS / f"{form}.txt").read_text("utf-8")


@pytest.mark.parametrize("form", FORMS)
def test_examples_show_every_level_of_theirs_and_are_mostly_zero(form):
    levels = [level for e in load_prompt(form).examples for level in e.levels]
    assert all(0 <= level <= 10 for level in levels)
    assert 0.5 < levels.count(0) / len(levels) < 0.95
    assert {0, 9} <= set(levels)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_put_into_a_prompt_is_not_read_as_a_template(form):
    prompt = load_prompt(form)
    hostile = "{{ 7 * 7 }}{% macro unit(x) %}{# #}"
    assert hostile in "".join(prompt.start(hostile, hostile))
    assert prompt.token(hostile) == hostile


def main():
    SNAPSHOTS.mkdir(exist_ok=True)
    for form in FORMS:
        (SNAPSHOTS / f"{form}.txt").write_text(written_out(form), encoding="utf-8")


if __name__ == "__main__":
    main()
