"""The engine's gates hold; those that need a model say so."""

import pytest
from typer.testing import CliRunner

from autointerp import gates
from autointerp.cli import app


@pytest.mark.parametrize("name", gates.ENGINE)
def test_the_gate_holds(name: str) -> None:
    passed, found = gates.ENGINE[name]()
    assert passed, found


def test_gates_that_need_a_model_are_not_run_and_never_passed(monkeypatch) -> None:
    monkeypatch.setattr(gates, "ENGINE", {"G10": gates.same_seed_same_numbers})
    found = {gate.name: gate for gate in gates.run_gates()}
    assert found.pop("G10").outcome == "passed"
    assert {gate.outcome for gate in found.values()} == {"not run"}
    assert set(found) == set(gates.NOT_HERE)


def test_a_failed_gate_fails_the_selftest(monkeypatch) -> None:
    def broken() -> tuple[bool, str]:
        """G0: never holds."""
        return False, "0 of 1"

    monkeypatch.setattr(gates, "ENGINE", {"G0": broken})
    result = CliRunner().invoke(app, ["selftest"])
    assert result.exit_code == 1
    assert "failed" in result.output


def test_a_metric_of_absolute_values_would_fail_the_ranking_of_judges(monkeypatch) -> None:
    """The inverted judge is what tells: with |r| it ties with the oracle."""
    from autointerp.analysis import check_judge as module

    signed = module.correlation
    monkeypatch.setattr(module, "correlation", lambda *given: abs(signed(*given)))
    assert not gates.judges_are_ranked()[0]
