from pathlib import Path

import pytest

from autointerp.analysis.planning import DEFAULT, as_question, plan
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


def test_without_a_pilot_the_assumptions_are_named() -> None:
    found = plan(None, effect=0.1)
    assert found.components == DEFAULT
    assert "assumed, no pilot" in found.source
    assert "80 % power" in found.sentence


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
