"""Ratings of planted units by judges that know what texts mean, and by those that do not."""

import json
import re

import numpy as np
import pytest

from autointerp.analysis.known_answers import known_answers
from autointerp.analysis.rating_calibration import calibrate_rating, record_of
from autointerp.llm import Request, Response, ResponseStatus
from autointerp.records import AutointerpError, Strata
from autointerp.scorers.prompts import shown_text

ANSWERS = [answer for answer in known_answers() if answer.readable][::3]


def plain(text: str) -> str:
    return re.sub(r"\\?[<>]|\\", "", text).replace(" ", "")


def knowing(requests):
    """Rates by what the explanation predicts on the highlighted tokens, as the rubric says."""
    tables = {}
    for one in ANSWERS:
        for name, words in one.explanations.items():
            pairs = zip(one.tokens, one.predictions[name], strict=True)
            tables.setdefault(words, {}).update((plain(shown_text(t)), (t, v)) for t, v in pairs)
    return [answer(request, tables) for request in requests]


def answer(request: Request, tables) -> Response:
    lines = request.messages[-1].content.splitlines()
    table = tables[lines[0].removeprefix("Explanation: ")]
    ratings = []
    for line in lines[1:]:
        shown = re.sub(r"^<text \d+>|</text \d+>$", "", line)
        tokens, values = table[plain(shown)]
        # Everything before the first mark tells which token it is on.
        before = plain(shown.split("<<")[0])
        ends = np.cumsum([len(plain(shown_text([t]))) for t in tokens])
        place = int(np.searchsorted(ends, len(before), side="right"))
        near = values[max(0, place - 1) : place + 4].max() > 0
        ratings.append(3 if near else 1 if values.max() > 0 else 0)
    return Response(json.dumps({"answers": ratings}), ResponseStatus.OK)


def test_a_judge_that_follows_the_rubric_rates_the_true_explanation_highest():
    found = calibrate_rating(knowing, ANSWERS)
    assert found.n_compared == len(ANSWERS)
    assert found.n_right >= 0.9 * found.n_compared
    assert found.p_value is not None and found.p_value < 0.001
    means = found.means
    assert means["true"] > means["broad"] > means["unrelated"]
    assert means["true"] > means["narrow"] > means["unrelated"]
    assert means["true"] > 0.6 and abs(means["unrelated"]) < 0.2


def test_judges_that_know_nothing_are_not_fit():
    same = calibrate_rating(
        lambda rs: [Response(json.dumps({"answers": [3] * n_texts(r)}), ResponseStatus.OK)
                    for r in rs], ANSWERS[:6],
    )  # fmt: skip
    assert set(same.means.values()) == {0.0} and same.n_right == 0
    silent = calibrate_rating(lambda rs: [Response(None, ResponseStatus.REFUSED)] * len(rs),
                              ANSWERS[:3])  # fmt: skip
    assert (silent.n_compared, silent.p_value) == (0, None)
    assert set(silent.means.values()) == {None}


def n_texts(request: Request) -> int:
    return sum(line.startswith("<text ") for line in request.messages[-1].content.splitlines())


def test_planted_units_are_records_with_strata_of_their_range():
    record = record_of(ANSWERS[0])
    assert record.explain_maximum() == max(float(v.max()) for v in ANSWERS[0].truth)
    strata = {window.stratum for window in record.records}
    assert Strata.SILENT in strata and any(Strata.is_active(s) for s in strata)


def test_without_units_that_can_be_read_there_is_no_calibration():
    hidden = [a for a in known_answers() if not a.readable]
    with pytest.raises(AutointerpError, match="none of the planted units"):
        calibrate_rating(knowing, hidden)
