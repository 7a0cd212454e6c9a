"""OpenAI's and Neuronpedia's files are in their owners' form and hold what was stored."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from autointerp.export.exporting import export_run
from autointerp.export.importing import import_files
from autointerp.export.neuronpedia import Names
from autointerp.export.openai import moments
from autointerp.export.rows import FinishedRun, TextChoice
from autointerp.records import SplitStatistics, UsageError
from tests.export.test_reading import TRUTH


def _same_shape(truth: Any, found: Any) -> None:
    """Same fields in the same order; lists are compared by their first items."""
    if isinstance(truth, dict):
        assert list(truth) == list(found)
        for name in truth:
            _same_shape(truth[name], found[name])
    elif isinstance(truth, list) and truth and found:
        _same_shape(truth[0], found[0])


def test_openais_files_have_the_fields_of_openais_own_code(
    exported_run: Path, tmp_path: Path
) -> None:
    done = export_run(exported_run, "openai", tmp_path / "o")
    own = [json.loads(line) for line in (exported_run / "explanations.jsonl").open()]
    assert done.n == len({row["unit"] for row in own})
    pairs = ("neurons", "neuron_record_json"), ("explanations", "neuron_simulation_results_json")
    for kind, name in pairs:
        paths = sorted((tmp_path / "o").rglob(f"{kind}/0/*"))
        assert len(paths) == done.n
        for path in paths:
            _same_shape(json.loads(TRUTH["serialisation"][name]), json.loads(path.read_text()))


def test_simulated_sequences_are_those_that_were_scored(exported_run: Path, tmp_path: Path) -> None:
    export_run(exported_run, "openai", tmp_path / "o")
    n = 0
    for unit, rows, _ in FinishedRun(exported_run).units():
        folder = "neurons" if unit.polarity > 0 else "neurons__negative"
        path = tmp_path / "o" / folder / "explanations" / "0" / f"{unit.index}.jsonl"
        found = json.loads(path.read_text())["scored_explanations"]
        by_text = {row["explanation"]: row["scores"]["simulation"] for row in rows}
        for one in found:
            score = by_text[one["explanation"]]
            scored = one["scored_simulation"]
            assert scored["ev_correlation_score"] == score["score"]
            sequences = scored["scored_sequence_simulations"]
            assert len(sequences) == score["n_windows"]
            true = np.concatenate([s["true_activations"] for s in sequences])
            levels = [s["simulation"]["expected_activations"] for s in sequences]
            expected = scipy_stats.pearsonr(true, np.concatenate(levels)).statistic
            if score["n_tokens"] == len(true):
                assert score["score"] == pytest.approx(expected, abs=1e-6)
                n += 1
    assert n


def test_moments_are_those_of_scipy() -> None:
    x = np.random.default_rng(0).exponential(size=1000) * (np.arange(1000) % 3 == 0)
    raw = tuple(float((x**k).mean()) for k in range(1, 5))
    found = moments(SplitStatistics(1000, 334, 1, 1, float(x.max()), raw, (), ()))
    assert found["variance"] == pytest.approx(x.var())
    assert found["skewness"] == pytest.approx(scipy_stats.skew(x))
    assert found["kurtosis"] == pytest.approx(scipy_stats.kurtosis(x, fisher=False))
    constant = moments(SplitStatistics(9, 9, 1, 1, 2.0, (2.0, 4.0, 8.0, 16.0), (), ()))
    assert constant["skewness"] is None


def _rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    paths = sorted(folder.rglob(f"{kind}/batch-*.jsonl.gz"))
    return [json.loads(line) for path in paths for line in gzip.open(path, "rt")]


def test_bulk_rows_come_back_as_they_went(exported_run: Path, tmp_path: Path) -> None:
    names = Names("gpt2-small", "0-mlp")
    done = export_run(exported_run, "neuronpedia", tmp_path / "np", names=names)
    features = _rows(tmp_path / "np", "features")
    assert len(features) == done.n
    assert {f["modelId"] for f in features} == {"gpt2-small"}
    for row in _rows(tmp_path / "np", "activations"):
        assert len(row["tokens"]) == len(row["values"])
        assert row["values"][row["maxValueTokenIndex"]] == row["maxValue"] > 0
    taken = import_files([tmp_path / "np"], tmp_path / "taken")
    assert taken.n_refused == 0
    own = [json.loads(line) for line in (exported_run / "explanations.jsonl").open()]
    told = [r for r in own if r["explanation"] is not None and not r["is_baseline"]]
    assert sum(taken.explanations.values()) + taken.n_repeated >= len(told)
    assert "words_gpt-4.1" in taken.explanations


def test_the_same_run_gives_the_same_bytes(exported_run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_run(exported_run, "neuronpedia", tmp_path / name)
    for path in (tmp_path / "a").rglob("*.gz"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_bodies_for_uploading_keep_the_limits(
    exported_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autointerp.export.neuronpedia.MAX_FEATURES", 3)
    monkeypatch.setattr("autointerp.export.neuronpedia.MAX_EXPLANATION", 20)
    monkeypatch.setattr("autointerp.export.neuronpedia.MAX_TOKENS", 5)
    done = export_run(exported_run, "neuronpedia-upload", tmp_path / "up")
    bodies = [json.loads(p.read_text()) for p in sorted((tmp_path / "up").iterdir())]
    features = [f for body in bodies for f in body["features"]]
    assert len(features) == done.n > 3
    assert all(len(body["features"]) <= 3 for body in bodies)
    assert all(1 <= len(e["text"]) <= 20 for f in features for e in f["explanations"])
    assert all(1 <= len(a["tokens"]) == len(a["values"]) <= 5
               for f in features for a in f["activations"])  # fmt: skip
    assert all(len(f["topLogits"]) <= 20 for f in features)
    assert done.left_out
    assert set(bodies[0]) == {"modelId", "source", "features"}


def test_without_text_no_window_goes_along(exported_run: Path, tmp_path: Path) -> None:
    bare = TextChoice(with_text=False)
    export_run(exported_run, "openai", tmp_path / "o", bare)
    for path in (tmp_path / "o").rglob("*.json*"):
        assert '"tokens"' not in path.read_text()
    export_run(exported_run, "neuronpedia", tmp_path / "np", bare)
    assert _rows(tmp_path / "np", "activations") == []
    assert _rows(tmp_path / "np", "features")


def test_folders_with_other_files_and_bad_ids_are_refused(
    exported_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(UsageError, match="is not empty"):
        export_run(exported_run, "openai", tmp_path / "full")
    with pytest.raises(UsageError, match="is no id"):
        export_run(exported_run, "neuronpedia", tmp_path / "np", names=Names("../x"))


def test_units_of_openais_files_keep_source_and_side(exported_run: Path, tmp_path: Path) -> None:
    export_run(exported_run, "openai", tmp_path / "o")
    found = import_files([tmp_path / "o"], tmp_path / "taken")
    assert found.n_refused == 0
    units = {str(unit) for unit, _, _ in FinishedRun(exported_run).units()}
    lines = (tmp_path / "taken/explanations/openai.jsonl").read_text().splitlines()
    assert {json.loads(line)["unit"] for line in lines} <= units
    records = (tmp_path / "taken/records").glob("*.jsonl")
    windows = [json.loads(line) for path in records for line in path.open()]
    assert {window["unit"] for window in windows} == units


def test_a_name_for_a_source_that_is_not_there_is_refused(
    exported_run: Path, tmp_path: Path
) -> None:
    export_run(exported_run, "openai", tmp_path / "o")
    with pytest.raises(UsageError, match="no such source, but neurons"):
        import_files([tmp_path / "o"], tmp_path / "taken", ["nope=features"])
    assert not (tmp_path / "taken").exists()
