"""The engine's gates hold; those that need a model say so."""

import pytest
from typer.testing import CliRunner

from autointerp import gates
from autointerp.cli import app


@pytest.mark.parametrize("name", gates.ENGINE)
def test_the_gate_holds(name: str) -> None:
    passed, found = gates.ENGINE[name]()
    assert passed, found


@pytest.mark.parametrize("name", gates.MODEL)
def test_the_gate_on_a_model_holds(name: str) -> None:
    passed, found = gates.MODEL[name][1]()
    assert passed, found


def test_every_gate_is_there_once() -> None:
    names = {name.split()[0].rstrip(",") for name in (*gates.ENGINE, *gates.MODEL, *gates.NOT_HERE)}
    assert {f"G{number}" for number in range(1, 13)} <= names


def test_a_gate_whose_model_is_not_installed_is_not_run(monkeypatch) -> None:
    def missing() -> tuple[bool, str]:
        raise gates.NotRunError("needs the embedded model")

    monkeypatch.setattr(gates, "ENGINE", {})
    monkeypatch.setattr(gates, "MODEL", {"G12": ("claim", missing)})
    found = gates.run_gates()[0]
    assert (found.outcome, found.found) == ("not run", "needs the embedded model")


def test_what_is_recorded_wrongly_fails_the_gate(monkeypatch) -> None:
    from dataclasses import replace

    from autointerp import gates_model

    true = gates_model.recorded()
    first, *rest = true.records
    wrong = tuple(replace(w, activations=w.activations[::-1]) for w in first.records)
    moved = replace(true, records=(replace(first, records=wrong), *rest))
    monkeypatch.setattr(gates_model, "recorded", lambda: moved)
    assert not gates_model.planted_units_are_recorded()[0]


def test_gates_that_need_a_language_model_are_not_run_and_never_passed(monkeypatch) -> None:
    monkeypatch.setattr(gates, "ENGINE", {"G10": gates.same_seed_same_numbers})
    monkeypatch.setattr(gates, "MODEL", {})
    found = {gate.name: gate for gate in gates.run_gates()}
    assert found.pop("G10").outcome == "passed"
    assert {gate.outcome for gate in found.values()} == {"not run"}
    assert set(found) == set(gates.NOT_HERE)


def test_a_failed_gate_fails_the_selftest(monkeypatch) -> None:
    def broken() -> tuple[bool, str]:
        """G0: never holds."""
        return False, "0 of 1"

    monkeypatch.setattr(gates, "ENGINE", {"G0": broken})
    monkeypatch.setattr(gates, "MODEL", {})
    result = CliRunner().invoke(app, ["selftest"])
    assert result.exit_code == 1
    assert "failed" in result.output


def test_a_metric_of_absolute_values_would_fail_the_ranking_of_judges(monkeypatch) -> None:
    """The inverted judge is what tells: with |r| it ties with the oracle."""
    from autointerp.analysis import check_judge as module

    signed = module.correlation
    monkeypatch.setattr(module, "correlation", lambda *given: abs(signed(*given)))
    assert not gates.judges_are_ranked()[0]
