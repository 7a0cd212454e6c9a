"""What is added to a run later is computed, and nothing else is."""

import json
from pathlib import Path
from typing import Any

import pytest

from autointerp.analysis.compare_runs import compare_runs
from autointerp.explainers.labels import add_label
from autointerp.runner import run
from autointerp.store import RunStore
from tests.run_helpers import small_config, write_corpus

NEURONS = {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post"}


def config(folder: Path, model: Path, **changes: Any) -> Any:
    given = {
        "units": {"ids": ["neurons/1", "neurons/2"]},
        "explainers": [{"name": "top_tokens", "type": "top_tokens"}],
        **changes,
    }
    return small_config(folder, model, **given)


def stored(folder: Path) -> dict[str, set[str]]:
    """Keys of what a run holds, by table; of scores those by simulation."""
    store = RunStore(folder / "run", read_only=True)
    found = {
        table: {key for (key,) in store.database.execute(f"SELECT key FROM {table}")}
        for table in ("explanations", "simulations")
    }
    found["scores"] = store.score_keys("simulation")
    store.close()
    return found


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    run(config(tmp_path, tiny_folder))
    return tmp_path


def records_of(folder: Path, source: str = "neurons") -> tuple[bytes, int]:
    path = folder / "run" / "records" / f"{source}.parquet"
    return path.read_bytes(), path.stat().st_mtime_ns


def test_units_added_later_are_explained_and_the_others_are_not_again(
    folder: Path, tiny_folder: Path
) -> None:
    before, recorded = stored(folder), records_of(folder)
    ids = ["neurons/1", "neurons/2", "neurons/5"]
    run(config(folder, tiny_folder, units={"ids": ids}))
    after = stored(folder)
    assert records_of(folder) == recorded
    assert before["explanations"] < after["explanations"]
    assert len(after["explanations"]) == len(before["explanations"]) + 1
    # Own and donors' words on old windows stay; only pairs with the new unit are read.
    assert before["simulations"] <= after["simulations"]


def test_a_scorer_added_later_leaves_the_scores_that_are_there(
    folder: Path, tiny_folder: Path
) -> None:
    before, recorded = stored(folder), records_of(folder)
    scorers = [
        {"name": "simulation", "type": "simulation"},
        {"name": "surprisal", "type": "surprisal", "model": str(tiny_folder)},
    ]
    run(config(folder, tiny_folder, scorers=scorers))
    assert stored(folder) == before and records_of(folder) == recorded
    store = RunStore(folder / "run", read_only=True)
    assert len(store.score_keys("surprisal")) == 2
    store.close()


def test_a_source_added_later_is_recorded_alone(folder: Path, tiny_folder: Path) -> None:
    before, recorded = stored(folder), records_of(folder)
    second = {**NEURONS, "hook_point": "blocks.1.mlp.hook_post"}
    ids = ["neurons/1", "neurons/2", "later/3"]
    run(config(folder, tiny_folder, sources={"neurons": NEURONS, "later": second},
               units={"ids": ids}))  # fmt: skip
    after = stored(folder)
    assert records_of(folder) == recorded and records_of(folder, "later")[0]
    assert before["explanations"] < after["explanations"]
    assert before["scores"] <= after["scores"]


def test_runs_over_different_corpora_are_compared_and_the_other_corpus_is_told(
    folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """A corpus added later is another run of the same config: what units do in it is recorded."""
    other = tmp_path / "other"
    other.mkdir()
    write_corpus(other / "corpus.jsonl", seed=5)
    run(config(other, tiny_folder, name="other"))
    found = compare_runs([folder / "run", other / "run"])
    assert found.groups == ("small", "other")
    assert any("corpus differs" in note for note in found.notes)
    (comparison,) = found.comparisons
    assert comparison["design"] == "independent"
    assert comparison["n_selected_a"] == comparison["n_selected_b"] == 2


def test_a_label_corrected_by_hand_keeps_both_authors_and_the_last_counts(
    folder: Path, tiny_folder: Path
) -> None:
    before = stored(folder)
    for text, author in (("farms", "Ada L."), ("farms and mills", "Grace H.")):
        add_label(folder / "run", "neurons/1", text, author)
    run(config(folder, tiny_folder))
    lines = (folder / "run" / "labels.jsonl").read_text().splitlines()
    assert [json.loads(line)["author"] for line in lines] == ["Ada L.", "Grace H."]
    rows = [json.loads(line) for line in (folder / "run" / "explanations.jsonl").open()]
    (row,) = (r for r in rows if r["explainer"] == "human" and r["unit"] == "neurons/1")
    assert (row["explanation"], row["author"]) == ("farms and mills", "Grace H.")
    assert row["scores"]["simulation"]["key"]
    assert before["explanations"] <= stored(folder)["explanations"]
    assert before["scores"] <= stored(folder)["scores"]
