import numpy as np
import pytest

from autointerp.analysis.results import RunResults
from autointerp.records import ActivationRecord, Simulation, UnitId
from autointerp.viewer.tokens import (
    MAX_TOKEN_CHARACTERS,
    Cell,
    LevelScale,
    cells_of,
    direction,
    level_scale,
    plain,
    shown_text,
)

from ..analysis.synthetic import run_of, unit_of, window_of

UNIT = UnitId("features", 0)


def cells(
    text: str,
    spans: list[tuple[int, int]],
    activations: list[float],
    *,
    levels: list[float] | None = None,
    known: list[bool] | None = None,
    masked: list[bool] | None = None,
    start: int = 0,
) -> list[Cell]:
    tokens = ["\ufffd"] * len(spans)
    record = window_of(UNIT, activations, tokens, start=start, masked=masked)
    results = results_for(record, text, [(0, 0)] * start + spans)
    n = len(spans)
    simulation = Simulation(
        np.asarray(levels or [0.0] * n, np.float32),
        np.asarray(known or [True] * n),
        np.ones(n, np.float32),
    )
    return cells_of(results, record, simulation, 4.0, level_scale((simulation,)))


def results_for(record: ActivationRecord, text: str, spans: list[tuple[int, int]]) -> RunResults:
    starts, ends = (np.array(part, np.int32) for part in zip(*spans, strict=True))
    facts = {"text": text, "document_name": "d", "kind": ""}
    return run_of(
        [unit_of(UNIT, 0.5, windows=[record])],
        sequence_texts={record.window.sequence_id: facts},
        char_spans={record.window.sequence_id: (starts, ends)},
    )


def test_tokens_of_one_character_become_one_cell_with_the_largest_activation() -> None:
    found = cells(
        "a😀b", [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], [0, 1, 3, 2, 0], levels=[0, 1, 5, 2, 0]
    )
    assert [cell.text for cell in found] == ["a", "😀", "b"]
    assert found[1].true == 3.0
    assert found[1].level == 5.0
    assert found[1].title == "true 3.00, simulated level 5.00"


def test_overlapping_spans_are_merged_so_that_no_character_is_shown_twice() -> None:
    found = cells("x 中", [(0, 1), (1, 3), (2, 3), (2, 3)], [0, 1, 2, 0])
    assert [cell.text for cell in found] == ["x", " 中"]


def test_a_window_inside_its_sequence_shows_its_own_text() -> None:
    found = cells("one two", [(0, 3), (3, 7)], [1, 2], start=3)
    assert "".join(cell.text for cell in found) == "one two"


def test_spaces_that_the_spans_leave_out_are_shown() -> None:
    found = cells("one two", [(0, 3), (4, 7)], [1, 2])
    assert [cell.text for cell in found] == ["one", " two"]


def test_tokens_are_shown_where_the_text_is_unknown() -> None:
    record = window_of(UNIT, [0, 4], ["<s>", " dog"])
    results = run_of([unit_of(UNIT, 0.5, windows=[record])], sequence_texts={}, char_spans={})
    found = cells_of(results, record, None, 4.0, None)
    assert [cell.text for cell in found] == ["<s>", " dog"]
    assert found[1].level_shade is None


def test_shades_are_shares_of_the_explain_maximum_and_any_activation_has_one() -> None:
    found = cells("abcd", [(i, i + 1) for i in range(4)], [0, 0.01, 2, 9])
    assert [cell.true_shade for cell in found] == [0, 1, 5, 10]


def test_masked_tokens_have_no_shade_and_are_said_to_be_unscored() -> None:
    found = cells("ab", [(0, 1), (1, 2)], [3, 3], masked=[True, False])
    assert found[0].true_shade is None
    assert found[0].title == "not scored"


def test_unknown_levels_have_no_shade() -> None:
    found = cells("ab", [(0, 1), (1, 2)], [1, 1], levels=[7, 1], known=[False, True])
    assert found[0].level_shade is None
    assert found[0].title == "true 1.00, simulated no level"


def test_level_shades_run_from_the_lowest_to_the_highest_but_flat_stays_flat() -> None:
    assert [LevelScale(1.0, 3.0).shade(x) for x in (1, 2, 3)] == [0, 5, 10]
    assert LevelScale(1.0, 1.05).shade(1.05) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\n", "↵"),
        ("\n\n", "↵↵"),
        ("\t", "⇥"),
        ("\u200b", "⟨U+200B⟩"),
        ("\u202e", "⟨U+202E⟩"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\ufeff", "⟨U+FEFF⟩"),
        ("\x00", "⟨U+0000⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("        x", "␣×8x"),
        (" dog", " dog"),
        ("\u0301", "◌\u0301"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d🔬", "👩\u200d🔬"),
    ],
)
def test_invisible_characters_are_written_out(text: str, shown: str) -> None:
    assert shown_text(text) == shown


def test_a_token_of_100_kilobytes_is_cut_with_an_ellipsis() -> None:
    shown = shown_text("x" * 100_000)
    assert len(shown) == MAX_TOKEN_CHARACTERS
    assert shown.endswith("…")


def test_direction_follows_the_letters() -> None:
    assert direction("שלום עולם 123") == "rtl"
    assert direction("العربية with one word") == "ltr"
    assert direction("123") == "ltr"


def test_plain_text_keeps_line_breaks_and_writes_out_direction_marks() -> None:
    assert plain("a\nb\u2066c\x1b") == "a\nb⟨U+2066⟩c⟨U+001B⟩"
