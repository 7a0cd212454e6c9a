"""A run's scores follow from what it stored; whatever was changed since is found."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.explainers.labels import add_label
from autointerp.records import AutointerpError
from autointerp.runner import run
from autointerp.store import RunStore
from autointerp.trace import trace_unit
from autointerp.verify import verify_run
from tests.judged_run import judged_config, judged_run
from tests.run_helpers import write_dictionary

SPLITS = ("explain", "calibrate", "test")


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judged_run(tmp_path_factory.mktemp("verified"), tiny_folder)


@pytest.fixture(scope="module")
def everything(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with units scored without words, a choice among explanations, and a label by hand."""
    folder = tmp_path_factory.mktemp("everything")
    explainers = [
        {"name": "words", "type": "token_activation_pairs", "n_windows": 2},
        {"name": "top_tokens", "type": "top_tokens"},
        {"name": "n2g", "type": "n2g"},
        {"name": "best", "type": "best_of", "of": ["words", "top_tokens"]},
        {"name": "judged", "type": "best_of", "of": ["words", "top_tokens"], "by": "detection"},
    ]
    scorers = [
        {"name": "simulation", "type": "simulation"},
        {"name": "detection", "type": "detection"},
        {"name": "fuzzing", "type": "fuzzing"},
        {"name": "intruder", "type": "intruder", "n_trials": 4},
    ]
    neurons = {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post", "sparsify": {"l0": 4}}
    features = {"type": "sae", "path": str(write_dictionary(folder / "sae"))}
    quotas = {name: {"top": 1, "intervals": 4, "hard": 0, "silent": 2} for name in SPLITS}
    changes: dict[str, Any] = {
        "scorers": scorers, "explainers": explainers, "controls": True,
        "sources": {"neurons": neurons, "features": features}, "units": {"sample": 3},
        "record": {"design": {"name": "small", "quotas": quotas}, "batch_tokens": 264,
                   "shard_tokens": 528},
    }  # fmt: skip
    with judged_config(folder, tiny_folder, **changes) as config:
        run(config)
        store = RunStore(folder / "run")
        unit = next(s.unit for s in store.scores() if s.value is not None)
        store.close()
        add_label(folder / "run", str(unit), "farms", "Ada L.")
        run(config)
    return folder / "run"


def test_units_scored_without_words_choices_and_labels_are_computed_again(
    everything: Path,
) -> None:
    found = verify_run(everything)
    store = RunStore(everything)
    scores = list(store.scores())
    store.close()
    assert found.is_exact, (found.differences[:3], found.broken_links)
    assert found.max_difference == 0 and found.n_choices == 12
    n = {name: sum(s.scorer == name for s in scores) for name in ("intruder", "simulation")}
    assert n["intruder"] == 6 and {s.explainer for s in scores} >= {"", "best", "judged", "human"}
    assert sum(s.scorer == "intruder" and s.value is not None for s in scores) >= 3
    assert not found.not_recomputed, found.not_recomputed
    assert found.n_recomputed == len(scores)


def test_a_changed_choice_is_found(everything: Path, tmp_path: Path) -> None:
    shutil.copytree(everything.parent, tmp_path / "copy")
    folder = tmp_path / "copy" / "run"
    changed(
        folder,
        "UPDATE explanations SET details = json_set(details, '$.candidates[0].value', 0.9) "
        "WHERE key IN (SELECT key FROM explanations WHERE explainer = 'best' LIMIT 1)",
    )
    found = verify_run(folder)
    assert {one.scorer for one in found.differences} == {"choice"}
    assert found.differences[0].field == "candidates.0.value"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished.parent, tmp_path / "copy")
    return tmp_path / "copy" / "run"


def changed(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "results.sqlite") as database:
        assert database.execute(statement).rowcount > 0


def test_every_score_of_a_run_is_computed_again_exactly(finished: Path) -> None:
    found = verify_run(finished)
    store = RunStore(finished)
    n = {name: sum(counts.values()) for name, counts in store.count_scores().items()}
    store.close()
    assert n == {"simulation": 12, "detection": 8}
    assert found.n_recomputed + sum(found.not_recomputed.values()) == 20
    assert found.n_recomputed >= 16
    assert found.max_difference == 0
    assert found.is_exact


def test_verifying_asks_nobody_and_writes_nothing(finished: Path) -> None:
    def stamps() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in finished.glob("*.json")}

    before = stamps()
    verify_run(finished)
    assert stamps() == before


def test_a_changed_score_is_found_and_named(copied: Path) -> None:
    changed(
        copied,
        "UPDATE scores SET body = json_set(body, '$.value', 0.75) WHERE key = "
        "(SELECT key FROM scores WHERE value IS NOT NULL AND scorer = 'simulation' LIMIT 1)",
    )
    found = verify_run(copied)
    assert found.n_differing == 1
    (one,) = found.differences
    assert (one.field, one.stored) == ("value", 0.75)
    assert one.size == found.max_difference > 0
    result = CliRunner().invoke(app, ["verify", str(copied)])
    assert result.exit_code == 1
    assert "1 differ" in result.output


def test_a_changed_simulation_changes_scores(copied: Path) -> None:
    with sqlite3.connect(copied / "results.sqlite") as database:
        for key, blob in database.execute("SELECT key, expected FROM simulations").fetchall():
            levels = np.frombuffer(blob, np.float16).copy()
            levels[: len(levels) // 2] = 9
            statement = "UPDATE simulations SET expected = ? WHERE key = ?"
            database.execute(statement, (levels.tobytes(), key))
    assert verify_run(copied).n_differing >= 6


def test_changed_activations_change_scores(copied: Path) -> None:
    path = copied / "records" / "neurons.parquet"
    table = pq.read_table(path)
    doubled = pa.array(np.linspace(1, 3, len(table)) * table["maximum"].to_numpy(), pa.float32())
    place = table.schema.get_field_index("maximum")
    groups = pq.ParquetFile(path).metadata
    pq.write_table(
        table.set_column(place, table.schema.field(place), doubled),
        path,
        row_group_size=groups.row_group(0).num_rows,
    )
    assert verify_run(copied).n_differing > 0


def test_a_changed_fact_breaks_the_link_that_rests_on_it(copied: Path) -> None:
    facts = json.loads((copied / "provenance.json").read_text())
    facts["subjects"]["subject"]["fingerprint"] = "of another model"
    (copied / "provenance.json").write_text(json.dumps(facts))
    (broken,) = verify_run(copied).broken_links
    assert broken.startswith("neurons: its records' key")
    assert CliRunner().invoke(app, ["verify", str(copied)]).exit_code == 1


def test_scores_of_an_earlier_config_are_counted_and_not_compared(
    finished: Path, copied: Path
) -> None:
    facts = json.loads((copied / "provenance.json").read_text())
    facts["explainers"]["top_tokens"] = "another prompt"
    (copied / "provenance.json").write_text(json.dumps(facts))
    found = verify_run(copied)
    assert found.not_recomputed["of an earlier state of this run"] == 8
    assert found.is_exact


def test_a_judge_whose_answers_are_gone_is_counted(copied: Path) -> None:
    (copied.parent / "responses.sqlite").unlink()
    for name in ("responses.sqlite-wal", "responses.sqlite-shm"):
        (copied.parent / name).unlink(missing_ok=True)
    found = verify_run(copied)
    assert found.not_recomputed["of a judge whose answers are not kept"] >= 6
    assert found.n_recomputed >= 8


def test_a_score_is_traced_to_model_source_corpus_and_prompt(finished: Path) -> None:
    store = RunStore(finished)
    unit = next(s.unit for s in store.scores() if s.controls)
    store.close()
    found = trace_unit(finished, str(unit))
    assert found["records"]["holds"]
    assert found["records"]["subject"]["fingerprint"]
    assert {s["scorer"] for s in found["scores"]} == {"simulation", "detection"}
    for score in found["scores"]:
        assert score["explanation"]["holds"] and score["explanation"]["same_prompt_today"]
        donors = [c for c in score["controls"] if c["name"] == "shuffled"]
        assert len(donors) == 2
        assert all(0.2 < donor["rate_ratio"] < 5 for donor in donors)
    asked = next(s for s in found["scores"] if s["explainer"] == "words")
    assert asked["explanation"]["llm"]
    result = CliRunner().invoke(app, ["verify", str(finished), "--trace", str(unit)])
    assert result.exit_code == 0
    assert "(is the hash of:)" in result.output and "IS NOT" not in result.output


def test_what_is_no_finished_run_is_refused_by_name(tmp_path: Path, finished: Path) -> None:
    with pytest.raises(AutointerpError, match=r"no config\.yaml"):
        verify_run(tmp_path)
    with pytest.raises(AutointerpError, match="no score of unit"):
        trace_unit(finished, "neurons/9999")


@pytest.mark.parametrize(
    "name",
    ["corpus.parquet", "vocabulary.parquet", "records/neurons.parquet",
     "records/neurons.statistics.parquet", "records/neurons.sequences.parquet"],
)  # fmt: skip
def test_the_file_that_is_missing_is_named_and_no_other(copied: Path, name: str) -> None:
    (copied / name).unlink()
    (broken,) = verify_run(copied).broken_links
    assert f"{name} is missing" in broken


@pytest.mark.parametrize("name", ["records/neurons.parquet", "provenance.json"])
def test_a_damaged_file_is_refused_by_name(copied: Path, name: str) -> None:
    path = copied / name
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AutointerpError, match=f"{name} is .*remove it, run again"):
        verify_run(copied)


def test_who_only_reads_makes_no_database_in_the_place_of_a_lost_one(copied: Path) -> None:
    (copied / "results.sqlite").unlink()
    output = copied.parent / "openai"
    for command in (
        ["batches", str(copied)],
        ["export", str(copied), "--format", "openai", "--output", str(output)],
        ["verify", str(copied)],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 1 and "results.sqlite" in result.output, command
    assert not (copied / "results.sqlite").exists() and not output.exists()


def test_changed_tables_differ_from_the_scores_they_are_of(copied: Path) -> None:
    assert verify_run(copied).n_table_rows == 12
    path = copied / "explanations.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [s for row in rows for s in row["scores"].values() if s["lift"] is not None]
    for score in kept:
        score["lift"] = score["score"] = 0.99
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = verify_run(copied)
    assert (found.n_differing, found.is_exact) == (0, False)
    assert {one.file for one in found.differences} == {"explanations.jsonl"}
    assert len(found.differences) == 2 * len(kept)
    result = CliRunner().invoke(app, ["verify", str(copied)])
    assert result.exit_code == 1
    assert f"{2 * len(kept)} values of explanations.jsonl differ" in result.output


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("scores.csv", ",ok,0.", ",ok,0.9"), ("summary.json", '"mean": 0.', '"mean": 0.9')],
)
def test_a_number_changed_in_one_table_is_found(
    copied: Path, name: str, old: str, new: str
) -> None:
    path = copied / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    (one,) = verify_run(copied).differences
    assert one.file == name and one.size == pytest.approx(float(one.stored) - one.found)


def test_rows_left_out_and_scores_unsaid_are_found(copied: Path) -> None:
    path = copied / "explanations.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    scored = next(row for row in rows if row["scores"]["simulation"]["score"] is not None)
    rows.remove(scored)
    said = next(r["scores"]["simulation"] for r in rows if r["scores"]["simulation"]["key"])
    said |= {"key": None, "score": None, "lift": None, "status": "not_run"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = {one.field for one in verify_run(copied).differences if one.file == path.name}
    assert {"row", "key"} <= fields


def test_an_emptied_database_is_not_exact(copied: Path) -> None:
    changed(copied, "DELETE FROM scores")
    result = CliRunner().invoke(app, ["verify", str(copied)])
    assert result.exit_code == 1
    assert "no score could be recomputed, and the tables list" in result.output
    found = verify_run(copied)
    assert found.is_unknown and found.n_recomputed == 0 < found.n_published
