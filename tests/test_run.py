"""The whole run: what it writes, how it goes on, what it refuses."""

import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import autointerp
from autointerp.records import AutointerpError, Split, Status, Strata
from autointerp.runner import run
from autointerp.store import RunStore, run_status
from tests.processes import Forked, command_line
from tests.run_helpers import StopAfter, small_config, write_corpus

OUTPUTS = (
    "explanations.jsonl",
    "scores.csv",
    "summary.json",
    "config.yaml",
    "provenance.json",
    "results.sqlite",
    "report.html",
    "comparison.png",
    "comparison.svg",
    "records/neurons.parquet",
)


def stored(folder: Path) -> dict[str, Any]:
    """Every explanation and score of a run, by key."""
    with sqlite3.connect(folder / "results.sqlite") as db:
        explanations = db.execute("SELECT key, status, text FROM explanations ORDER BY key")
        scores = db.execute("SELECT key, value, status, lift FROM scores ORDER BY key")
        return {"explanations": explanations.fetchall(), "scores": scores.fetchall()}


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One finished run: (config, results)."""
    config = small_config(tmp_path_factory.mktemp("finished"), tiny_folder)
    return config, run(config)


def test_a_run_writes_every_output(finished: Any) -> None:
    config, results = finished
    for name in OUTPUTS:
        assert (Path(config.output) / name).stat().st_size > 0, name
    assert len(results.units) == 4
    rows = (Path(config.output) / "explanations.jsonl").read_text().splitlines()
    assert len(rows) == 4 * 3
    assert all(json.loads(row)["schema_version"] == 2 for row in rows)


def test_every_score_follows_from_stored_activations_and_simulations(finished: Any) -> None:
    """Recomputed with numpy alone, from what is on disk."""
    _, results = finished
    checked = 0
    for unit in results.units:
        for explainer, score in unit.scores.items():
            if score.status != Status.OK:
                continue
            parts = unit.simulations[explainer]
            kept = [
                ~window.masked & part.known
                for window, part in zip(unit.scored_windows, parts, strict=True)
            ]
            true = np.concatenate(
                [w.activations[k] for w, k in zip(unit.scored_windows, kept, strict=True)]
            )
            said = np.concatenate([p.expected[k] for p, k in zip(parts, kept, strict=True)])
            assert score.value == pytest.approx(np.corrcoef(true, said)[0, 1], abs=1e-6)
            donors = [c for c in score.controls if c.name == "shuffled"]
            controls = [0.0 if c.value is None else c.value for c in donors]
            assert score.lift == pytest.approx(score.value - np.mean(controls), abs=1e-9)
            checked += 1
    assert checked >= 4


def test_scored_windows_are_of_the_test_split_and_were_never_explained(finished: Any) -> None:
    _, results = finished
    for unit in results.units:
        explain = {r.document_id for r in unit.record.of(Split.EXPLAIN)}
        assert unit.scored_windows
        assert all(w.split == Split.TEST for w in unit.scored_windows)
        assert not explain & {w.document_id for w in unit.scored_windows}


def test_running_again_computes_nothing_and_changes_nothing(finished: Any) -> None:
    config, _ = finished
    before = stored(Path(config.output))
    ledger = RunStore(config.output).ledger_totals()
    run(config)
    assert stored(Path(config.output)) == before
    assert RunStore(config.output).ledger_totals() == ledger


@pytest.mark.parametrize("steps", [0, 2, 4, 6, 9, 12, 16])
def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(
    steps: int, finished: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    whole, _ = finished
    write_corpus(tmp_path / "corpus.jsonl")
    config = small_config(tmp_path, tiny_folder)
    with pytest.raises(KeyboardInterrupt):
        run(config, reporter=StopAfter(steps))
    run(config, until="score")
    assert stored(Path(config.output)) == stored(Path(whole.output))


def test_a_killed_process_leaves_a_run_that_goes_on(
    finished: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    whole, _ = finished
    config = small_config(tmp_path, tiny_folder)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    process = Forked(command_line, "run", str(path), output=tmp_path / "said.txt")
    database = Path(str(config.output)) / "results.sqlite"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.is_running:
        if database.exists() and stored_explanations(database):
            break
        time.sleep(0.02)
    process.kill()
    run(config, until="score")
    assert stored(Path(str(config.output))) == stored(Path(whole.output))


def stored_explanations(database: Path) -> int:
    """How many explanations a database that is being written holds."""
    try:
        with sqlite3.connect(database, timeout=1) as db:
            return db.execute("SELECT COUNT(*) FROM explanations").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def hold(tell: Callable[[Any], None], folder: str) -> None:
    """Hold a run's lock until it is killed."""
    with RunStore(folder).lock():
        tell("held")
        time.sleep(60)


def test_a_second_process_is_told_who_holds_the_run(tiny_folder: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, tiny_folder)
    holder = Forked(hold, config.output)
    assert holder.heard() == "held" and holder.pid != os.getpid()
    with pytest.raises(AutointerpError, match=f"held by process {holder.pid}"):
        run(config)
    holder.kill()


def test_a_changed_scorer_reuses_explanations_and_simulations(
    finished: Any, tiny_folder: Path
) -> None:
    config, _ = finished
    store = RunStore(config.output)
    before = {row["purpose"]: row["requests"] for row in store.ledger_totals()}
    n_scores = sum(store.count("scores").values())
    run(config.model_copy(update={"score": config.score.model_copy(update={"bootstrap": 150})}))
    after = {row["purpose"]: row["requests"] for row in store.ledger_totals()}
    assert after == before
    assert sum(store.count("scores").values()) == 2 * n_scores


def test_one_unit_is_explained_on_request(finished: Any) -> None:
    config, _ = finished
    page = (Path(config.output) / "report.html").read_bytes()
    results = run(config, units=["neurons/3-"])
    assert results is not None
    (unit,) = results.units
    assert str(unit.unit) == "neurons/3-"
    # Its controls are the run's other units, and the run's own page stays as it was.
    controls = unit.scores["token_lookup"].controls
    assert sum(control.name == "shuffled" for control in controls) == 2
    assert (Path(config.output) / "report.html").read_bytes() == page
    assert (Path(config.output) / "units" / "neurons.3-" / "report.html").exists()
    again = run(config, units=[unit.unit])
    assert again is not None
    assert [one.scores for one in again.units] == [unit.scores]


@pytest.mark.parametrize(
    ("given", "units", "says"),
    [
        ("run.yaml", None, "'run.yaml' is not a run's config: load it with"),
        (None, "neurons/3", "'neurons/3' is a string: give units as a list"),
    ],
)
def test_what_is_no_config_and_what_is_no_list_of_units_is_refused(
    given: Any, units: Any, says: str, finished: Any
) -> None:
    with pytest.raises(AutointerpError, match=says):
        autointerp.run(given or finished[0], units=units)


def test_a_unit_that_does_not_exist_is_named(finished: Any) -> None:
    config, _ = finished
    with pytest.raises(AutointerpError, match=r"neurons/99999 does not exist: neurons has \d+"):
        run(config, units=["neurons/99999"])


def test_a_missing_hook_point_lists_near_ones(tiny_folder: Path, tmp_path: Path) -> None:
    sources = {"neurons": {"type": "neurons", "hook_point": "blocks.0.mlp.hook_pots"}}
    config = small_config(tmp_path, tiny_folder, sources=sources)
    with pytest.raises(AutointerpError, match=r"blocks\.0\.mlp\.hook_post"):
        run(config)


def write_random_sae(folder: Path, d_in: int, *, dead: bool = False) -> Path:
    """A random dictionary of 16 latents at block 0, the first of them `dead` or not."""
    import torch

    from autointerp.units.sae.formats import saelens
    from autointerp.units.sae.model import SparseAutoencoder

    W = torch.randn(d_in, 16, generator=torch.Generator().manual_seed(0))
    b_enc = torch.zeros(16)
    b_enc[0] = -1e6 if dead else 0.0
    zeros = torch.zeros(d_in)
    sae = SparseAutoencoder("topk", W, b_enc, zeros, W.T.clone(), zeros, k=4)
    saelens.write_topk(folder, sae, {"hook_name": "blocks.0.hook_resid_post"}, torch.float32)
    return folder


def test_a_dictionary_of_another_width_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    path = write_random_sae(tmp_path / "sae", d_in=16)
    sources = {"features": {"type": "sae", "path": str(path)}}
    config = small_config(tmp_path, tiny_folder, sources=sources)
    with pytest.raises(AutointerpError, match=r"d_in = 16 channels, but .* has 32"):
        run(config)


def test_a_corpus_too_small_names_the_missing_documents(tiny_folder: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.jsonl", n_documents=4)
    config = small_config(tmp_path, tiny_folder)
    with pytest.raises(AutointerpError, match=r"too small .* more documents"):
        run(config)
    assert not (tmp_path / "run" / "corpus.parquet").exists()


def test_one_long_text_is_said_to_be_one_document(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("the ship left the harbour at dawn . " * 500)
    config = small_config(tmp_path, tiny_folder)
    assert config.corpus is not None
    corpus = config.corpus.model_copy(update={"path": str(tmp_path / "book.txt")})
    with pytest.raises(AutointerpError, match=r"add documents \(a text file is one: put parts"):
        run(config.model_copy(update={"corpus": corpus}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"explainers": [{"name": "a", "type": "top_token"}]}, "there is no type 'top_token'"),
        ({"simulator": {"name": "all_at_once", "prompt": "nope"}}, "nope"),
        ({"units": {"ids": ["neuron/3"]}}, "there is no source but neurons"),
    ],
)
def test_wrong_names_are_refused_before_anything_is_recorded(
    tiny_folder: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    config = small_config(tmp_path, tiny_folder, **changes)
    with pytest.raises(AutointerpError, match=said):
        autointerp.run(config)
    assert not (tmp_path / "run" / "corpus.parquet").exists()


def test_a_corpus_cut_by_max_tokens_is_told_so(tiny_folder: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, tiny_folder)
    assert config.corpus is not None
    corpus = config.corpus.model_copy(update={"max_tokens": 100})
    with pytest.raises(AutointerpError, match=r"raise corpus\.max_tokens"):
        autointerp.run(config.model_copy(update={"corpus": corpus}))


def test_sequences_longer_than_the_subject_reads_are_refused(
    tiny_folder: Path, tmp_path: Path
) -> None:
    config = small_config(tmp_path, tiny_folder)
    assert config.corpus is not None
    corpus = {**config.corpus.model_dump(), "sequence_length": 4096}
    with pytest.raises(AutointerpError, match=r"sequence_length is 4096, .* at most 2048 tokens"):
        run(small_config(tmp_path, tiny_folder, corpus=corpus))


def test_too_few_active_test_documents_is_a_status_not_a_number(
    tiny_folder: Path, tmp_path: Path
) -> None:
    quotas = {"test": {"top": 1, "intervals": 1, "hard": 0, "silent": 2}}
    record = {"design": {"name": "thin", "quotas": quotas}}
    explainers = [{"name": "token_lookup", "type": "token_lookup"}]
    config = small_config(tmp_path, tiny_folder, record=record, explainers=explainers)
    results = run(config)
    assert results is not None
    scores = [unit.scores["token_lookup"] for unit in results.units]
    assert {score.status for score in scores} == {Status.INSUFFICIENT_DATA}
    assert all(score.value is None and score.lift is None for score in scores)
    assert all("needed" in score.reason for score in scores)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    counts = summary["sources"]["neurons"]["explainers"]["token_lookup"]["counts"]
    assert counts["scored"] == 0
    assert counts["by_status"]["insufficient_data"] == 4


def test_a_full_disk_is_said_in_a_line(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import errno

    import typer

    from autointerp import cli

    config = small_config(tmp_path, tiny_folder)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunStore, "write_record_tables", full)
    with pytest.raises(typer.Exit) as caught:
        cli.run(path)
    assert caught.value.exit_code == 1
    assert "the disk is full" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(config) is not None


def test_status_tells_how_far_a_run_is(finished: Any, tmp_path: Path) -> None:
    config, _ = finished
    found = run_status(config.output)
    assert found.recorded == {"neurons": True}
    assert found.finished
    assert found.held_by is None
    assert sum(found.scores.values()) >= 12
    with pytest.raises(AutointerpError, match="holds no run"):
        run_status(tmp_path)


def test_a_dead_unit_is_never_explained(tiny_folder: Path, tmp_path: Path) -> None:
    """A dictionary whose first latent can never fire."""
    path = write_random_sae(tmp_path / "sae", d_in=32, dead=True)
    sources = {"features": {"type": "sae", "path": str(path)}}
    config = small_config(
        tmp_path, tiny_folder, sources=sources, units={"ids": ["features/0", "features/1"]}
    )
    results = run(config)
    assert results is not None
    dead, living = results.units
    assert dead.status == Status.DEAD
    assert not dead.explanations
    assert not dead.scores
    assert living.explanations
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["sources"]["features"]["dead"] == 1
    assert summary["sources"]["features"]["recorded"]["n_dead"] >= 1


def test_strata_of_scored_windows_hold_active_and_silent_ones(finished: Any) -> None:
    _, results = finished
    for unit in results.units:
        strata = {window.stratum for window in unit.scored_windows}
        assert any(Strata.is_active(name) for name in strata)


def test_the_api_names_what_a_notebook_needs() -> None:
    for name in autointerp.__all__:
        assert getattr(autointerp, name) is not None
