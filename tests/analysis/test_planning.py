from pathlib import Path

import numpy as np
import pytest

from autointerp.analysis.planning import MEASURED, as_question, plan
from autointerp.records import UnitId, UsageError

from .run_folders import write_run
from .synthetic import run_of, unit_of

LIFTS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def pilot(folder: Path) -> Path:
    """Eight features of known spread, each with an error of 0.1 / 1.96 in its lift."""
    return write_run(
        folder,
        run_of([unit_of(UnitId("features", i), x) for i, x in enumerate(LIFTS)], ("features",)),
    )


def test_components_of_a_pilot_are_those_of_its_lifts(tmp_path: Path) -> None:
    found = plan(pilot(tmp_path / "run"), effect=0.2, question="mean", explainers=["words"])
    assert (found.components.n_units, found.components.windows) == (8, 4)
    assert found.components.within == pytest.approx((0.1 / 1.959964) ** 2, rel=1e-6)
    assert found.components.between == pytest.approx(0.06 - found.components.within, rel=1e-6)
    assert [windows for windows, _ in found.needed] == [2, 4, 8, 16]
    units = [n or 0 for _, n in found.needed]
    assert units == sorted(units, reverse=True)


def test_the_spread_inside_groups_loses_a_degree_of_freedom_for_every_source(
    tmp_path: Path,
) -> None:
    units = [unit_of(UnitId("features", i), x) for i, x in enumerate(LIFTS[:4])]
    units += [unit_of(UnitId("neurons", i), x) for i, x in enumerate(LIFTS[4:])]
    folder = write_run(tmp_path / "run", run_of(units, ("features", "neurons")))
    found = plan(folder, effect=0.2, question="groups", explainers=["words"]).components
    inside = (np.var(LIFTS[:4], ddof=1) + np.var(LIFTS[4:], ddof=1)) / 2
    assert found.between + found.within == pytest.approx(inside, rel=1e-6)
    assert found.n_units == 8


def test_without_a_pilot_the_run_that_was_measured_is_named() -> None:
    for question in ("groups", "paired", "mean"):
        found = plan(None, effect=0.1, question=question)
        assert found.components == MEASURED[question]
        assert "measured on" in found.source and "demo run" in found.source
        assert "80 % power" in found.sentence


def test_errors_from_halves_are_what_halves_do_not_agree_on(tmp_path: Path) -> None:
    """Halves that agree exactly leave no error; all that is seen is between units."""
    folder = pilot(tmp_path / "run")

    def agreeing(key: str) -> np.ndarray:
        value = np.frombuffer(key.encode()[-8:].rjust(8), np.uint8).sum() / 100
        return np.full((2, 20), value)

    found = plan(folder, effect=0.2, question="mean", explainers=["words"], half_scores=agreeing)
    assert found.components.within == pytest.approx(0, abs=1e-9)
    assert found.components.between == pytest.approx(0.06)
    assert "halves" in found.source


def test_an_error_larger_than_all_that_is_seen_is_not_planned_with(tmp_path: Path) -> None:
    """Lifts that differ less than their intervals say: at its own windows the pilot's spread."""
    units = [unit_of(UnitId("features", i), 0.3 + 0.01 * (i % 2)) for i in range(8)]
    folder = write_run(tmp_path / "run", run_of(units, ("features",)))
    found = plan(folder, effect=0.01, question="mean", explainers=["words"])
    assert found.components.between == 0
    assert found.components.within == pytest.approx(np.var([0.3, 0.31] * 4, ddof=1))


def test_two_explainers_that_differ_nowhere_cannot_be_planned_with(tmp_path: Path) -> None:
    folder = pilot(tmp_path / "run")
    found = plan(folder, effect=0.1, question="paired", explainers=["words", "top_tokens"])
    assert found.components.between == 0
    assert "optimistic" in found.notes[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"effect": 0}, "--effect 0"),
        ({"effect": 0.1, "power": 0.01}, "alpha < power < 1"),
        ({"effect": 0.1, "explainers": ["nobody"]}, "no explainer 'nobody'"),
        ({"effect": 0.1, "scorer": "taste"}, "no scorer 'taste'"),
        ({"effect": 0.1, "question": "paired", "explainers": ["words"]}, "two explainers"),
        ({"effect": 0.1, "sources": ["nowhere"]}, "needs at least 3"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        plan(pilot(tmp_path / "run"), **arguments)
    with pytest.raises(UsageError, match="expected one of groups, paired, mean"):
        as_question("why")


def test_no_number_is_no_effect() -> None:
    for effect in (float("nan"), float("inf"), 0.0):
        with pytest.raises(UsageError, match="expected a difference of lifts"):
            plan(None, effect=effect)
