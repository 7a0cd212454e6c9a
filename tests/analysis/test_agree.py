"""Agreement of a run's scorers: from tables, from stored answers, and with people."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from autointerp.analysis.agree import agree
from autointerp.cli import app
from autointerp.halves import StoredHalves, halved, open_halves
from autointerp.records import UnitId, UsageError
from autointerp.store import RunStore
from tests.analysis.run_folders import write_run
from tests.analysis.synthetic import run_of, score_of, unit_of
from tests.test_verify import finished  # noqa: F401 (a fixture: a small real run)

N = 40


def two_scorers(folder: Path, rho: float = 0.8, error: float = 0.25, seed: int = 0) -> Path:
    """A run whose two scorers see true values of standard deviation 1 with a known error."""
    rng = np.random.default_rng(seed)
    true = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], N)
    seen = true + rng.normal(0, error, (N, 2))
    units = []
    for i, (a, b) in enumerate(seen):
        unit, half = UnitId("features", i), 1.959964 * error
        judged = score_of(
            unit, "words", float(b), half_width=half, scorer="detection", key=f"d{i}",
            details={"prevalence": 0.4},
        )  # fmt: skip
        own = score_of(unit, "words", float(a), half_width=half, key=f"s{i}")
        units.append(
            replace(unit_of(unit, {"words": own}), judged={"detection": {"words": judged}})
        )
    results = run_of(units, sources=("features",))
    scorers = [
        {"name": "simulation", "type": "simulation"},
        {"name": "detection", "type": "detection"},
    ]
    return write_run(folder, replace(results, config={**results.config, "scorers": scorers}))


def values(folder: Path, scorer: str) -> list[float]:
    rows = [json.loads(line) for line in (folder / "explanations.jsonl").read_text().splitlines()]
    return [r["scores"][scorer]["score"] for r in rows if r["explainer"] == "words"]


def test_reliability_from_intervals_is_one_minus_the_share_of_error(tmp_path: Path) -> None:
    folder = two_scorers(tmp_path / "run", error=0.25)
    found = agree(folder, explainer="words", n_replicates=200)
    for one in found.scorers:
        spread = np.var(values(folder, one.name), ddof=1)
        assert one.reliability == pytest.approx(1 - 0.0625 / spread, abs=1e-5)
        assert (one.n, one.found_from) == (N, "interval")
        assert one.interval is not None and one.interval.low < one.reliability


def test_correlations_are_numpys_and_disattenuated_by_both_reliabilities(tmp_path: Path) -> None:
    folder = two_scorers(tmp_path / "run")
    found = agree(folder, explainer="words", n_replicates=200)
    (pair,) = found.pairs
    r = np.corrcoef(values(folder, "simulation"), values(folder, "detection"))[0, 1]
    assert pair.pearson == pytest.approx(r)
    first, second = (one.reliability for one in found.scorers)
    assert pair.disattenuated == pytest.approx(r / np.sqrt(first * second))
    ends = pair.disattenuated_interval
    assert ends is not None and ends.low < 0.8 < ends.high


def test_halves_come_before_intervals(tmp_path: Path) -> None:
    folder = two_scorers(tmp_path / "run")
    rng = np.random.default_rng(0)
    own = dict(zip((f"s{i}" for i in range(N)), values(folder, "simulation"), strict=True))

    def half_scores(key: str) -> Any:
        return own[key] + rng.normal(0, 1e-3, (2, 5)) if key in own else None

    found = agree(folder, explainer="words", half_scores=half_scores, n_replicates=100)
    by_name = {one.name: one for one in found.scorers}
    assert by_name["simulation"].found_from == "halves"
    assert by_name["simulation"].reliability == pytest.approx(1, abs=1e-3)
    assert by_name["detection"].found_from == "interval"
    assert agree(folder, explainer="words", measure="lift", half_scores=half_scores,
                 n_replicates=50).scorers[0].found_from == "interval"  # fmt: skip


def test_what_the_run_does_not_have_is_refused_by_name(tmp_path: Path) -> None:
    folder = two_scorers(tmp_path / "run")
    with pytest.raises(UsageError, match="no explainer 'x'"):
        agree(folder, explainer="x")
    with pytest.raises(UsageError, match="no source 'x'"):
        agree(folder, explainer="words", sources=["x"])
    with pytest.raises(UsageError, match="score or of lift"):
        agree(folder, measure="r")  # pyright: ignore[reportArgumentType]


def test_the_command_prints_a_matrix_and_writes_json_without_nan(tmp_path: Path) -> None:
    folder = two_scorers(tmp_path / "run")
    result = CliRunner().invoke(
        app, ["agree", str(folder), "--explainer", "words"], env={"COLUMNS": "160"}
    )
    assert result.exit_code == 0, result.output
    assert "without error" in result.output and "simulation, detection" in result.output
    written = json.loads((folder / "agree.json").read_text())
    assert written["pairs"][0]["n"] == N
    assert "NaN" not in (folder / "agree.json").read_text()


def test_documents_are_not_in_both_halves() -> None:
    documents = list("aabbbcddeffg")
    for seed in range(20):
        side = halved(documents, np.random.default_rng(seed))
        assert len({(d, bool(s)) for d, s in zip(documents, side, strict=True)}) == 7
        # Neighbours are apart: the range is in both halves.
        order = list(dict.fromkeys(documents))
        of = dict(zip(documents, side, strict=True))
        assert all(of[a] != of[b] for a, b in zip(order[:-1:2], order[1::2], strict=False))


def test_halves_of_a_real_run_are_its_own_answers(finished: Path) -> None:  # noqa: F811
    store = RunStore(finished)
    scores = [s for s in store.scores() if s.value is not None and s.explainer]
    store.close()
    halves = StoredHalves(finished, n_splits=4)
    try:
        found = {s.key: halves.of(s.key) for s in scores}
        for score in scores:
            if score.explainer == "words":
                one = found[score.key]
                assert one is not None and one.shape == (2, 4), score.scorer
        assert any(not np.isnan(one).all() for one in found.values() if one is not None)
        # Everything is one "half": then it is the score itself.
        for score in scores:
            if score.explainer == "words" and not score.n_unknown_tokens:
                clusters, partial = halves._items(score)
                whole = partial(np.ones(len(clusters), bool))
                if not score.details.get("n_left_out"):
                    assert whole == pytest.approx(score.value, abs=1e-9), score.scorer
    finally:
        halves.close()
    report = agree(finished, n_replicates=50)
    assert {one.name for one in report.scorers} == {"simulation", "detection"}


@pytest.mark.parametrize(
    "name",
    ["corpus.parquet", "vocabulary.parquet", "records/neurons.sequences.parquet",
     "records/neurons.statistics.parquet"],
)  # fmt: skip
def test_a_run_that_cannot_be_read_is_a_note_with_the_reason(
    finished: Path,  # noqa: F811
    tmp_path: Path,
    name: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    with open_halves(folder) as half_scores:
        assert not any("cannot be read" in n for n in _notes(folder, half_scores))
    (folder / name).write_bytes((folder / name).read_bytes()[:300])
    with open_halves(folder) as half_scores:
        (note,) = (n for n in _notes(folder, half_scores) if "cannot be read" in n)
    assert f"{name} is not a Parquet file" in note


def _notes(folder: Path, half_scores: Any) -> tuple[str, ...]:
    return agree(folder, explainer="words", half_scores=half_scores, n_replicates=20).notes
