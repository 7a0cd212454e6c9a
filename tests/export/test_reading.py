"""Files of other tools become explanations and windows; what is malformed is named by its line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.config import RunConfig, load_config
from autointerp.explainers.fixed import read_texts
from autointerp.export.importing import import_files
from autointerp.export.reading import FoundExplanation, FoundWindow, Refused, read, read_file
from autointerp.recording.imported import import_records
from autointerp.records import AutointerpError, Status, UnitId, UsageError
from autointerp.runner import run

TRUTH = json.loads((Path(__file__).parent.parent / "data/openai_scoring.json").read_text())
"""Written by OpenAI's own code (tests/data/README.md)."""


def _windows(n: int = 60) -> list[tuple[list[str], list[float]]]:
    """Windows of a unit that fires on " bees"."""
    return [
        (
            (tokens := ["The", f" farm{i}", " kept", " bees" if i % 2 else " hens", f" year{i}."]),
            [7.0 if token == " bees" else 0.0 for token in tokens],
        )
        for i in range(n)
    ]


def test_openais_own_files_are_read(tmp_path: Path) -> None:
    for name in ("neuron_record_json", "neuron_simulation_results_json"):
        (tmp_path / f"{name}.jsonl").write_text(TRUTH["serialisation"][name] + "\n")
    record = json.loads(TRUTH["serialisation"]["neuron_record_json"])
    windows = list(read_file(tmp_path / "neuron_record_json.jsonl"))
    assert windows
    assert all(isinstance(w, FoundWindow) and w.unit == UnitId("layer_5", 131) for w in windows)
    first = record["most_positive_activation_records"][0]
    assert any(
        isinstance(w, FoundWindow)
        and (w.tokens, w.activations) == (first["tokens"], first["activations"])
        for w in windows
    )
    results = json.loads(TRUTH["serialisation"]["neuron_simulation_results_json"])
    found = list(read_file(tmp_path / "neuron_simulation_results_json.jsonl"))
    assert [f.text for f in found if isinstance(f, FoundExplanation)] == [
        " ".join(s["explanation"].split()) for s in results["scored_explanations"]
    ]


def test_windows_of_a_neuron_record_are_explained_and_scored_without_a_subject(
    tmp_path: Path,
) -> None:
    windows = _windows()
    records = [{"tokens": t, "activations": a} for t, a in windows]
    name = {"layer_index": 3, "neuron_index": 9}
    record = {"neuron_id": name, "most_positive_activation_records": records,
              "random_sample": records[:3], "random_sample_by_quantile": None}  # fmt: skip
    scored = {"explanation": "bees", "scored_simulation": {"ev_correlation_score": 0.5}}
    (tmp_path / "9.json").write_text(json.dumps(record))
    (tmp_path / "9.jsonl").write_text(
        json.dumps({"neuron_id": name, "scored_explanations": [scored]}) + "\n"
    )
    taken = tmp_path / "taken"
    found = CliRunner().invoke(
        app, ["import", str(tmp_path / "9.json"), str(tmp_path / "9.jsonl"), "--output", str(taken)]
    )
    assert found.exit_code == 0, found.output
    (line,) = (taken / "explanations" / "openai.jsonl").read_text().splitlines()
    assert json.loads(line) == {"unit": "layer_3/9", "explanation": "bees",
                                "ev_correlation_score": 0.5}  # fmt: skip
    (unit,) = run(load_config(taken / "import.yaml", RunConfig)).units
    assert unit.explanations["openai"].text == "bees"
    assert {name: score.status for name, score in unit.scores.items()} == {
        "openai": Status.OK,
        "token_lookup": Status.OK,
    }
    assert (unit.scores["token_lookup"].value or 0) > 0.98


def _neuronpedia(folder: Path) -> None:
    for kind in ("features", "activations", "explanations"):
        (folder / kind).mkdir(parents=True)
    own = {"modelId": "gpt2-small", "layer": "6-res-jb", "index": "17"}
    rows = {
        "features": [own | {"maxActApprox": 7.0, "frac_nonzero": 0.1}],
        "activations": [own | {"tokens": t, "values": a, "maxValue": 7} for t, a in _windows(6)],
        "explanations": [
            own | {"description": "bees", "typeName": "oai_token-act-pair",
                   "explanationModelName": "gpt-4o-mini"},
            own | {"description": "insects", "typeName": "oai_token-act-pair",
                   "explanationModelName": "gpt-4o-mini"},
        ],
    }  # fmt: skip
    for kind, content in rows.items():
        with gzip.open(folder / kind / "batch-0.jsonl.gz", "wt") as file:
            file.write("".join(json.dumps(row) + "\n" for row in content))


def test_a_bulk_export_of_neuronpedia_gives_explanations_and_windows(tmp_path: Path) -> None:
    _neuronpedia(tmp_path / "v1")
    found = import_files([tmp_path / "v1"], tmp_path / "taken", ["res"])
    assert found.n_refused == 0
    assert found.windows == {"res": 6}
    # Two texts of one method for one unit are two explainers.
    first, second = "oai_token-act-pair_gpt-4o-mini", "oai_token-act-pair_gpt-4o-mini_2"
    assert found.explanations == {first: 1, second: 1}
    texts = read_texts(tmp_path / "taken" / "explanations" / f"{second}.jsonl")
    assert texts == {UnitId("res", 17): "insects"}
    records = import_records(tmp_path / "taken" / "records" / "res.jsonl", "res")
    assert len(records.units[0].records) == 6
    assert load_config(tmp_path / "taken" / "import.yaml", RunConfig)


def test_an_upload_body_is_read(tmp_path: Path) -> None:
    tokens, values = _windows(2)[1]
    body = {"modelId": "m", "source": "6-res", "features": [
        {"index": 4, "density": 0.1, "topLogits": [], "bottomLogits": [],
         "explanations": [{"text": "bees", "methodName": "how", "modelName": "who"}],
         "activations": [{"tokens": tokens, "values": values}]}]}  # fmt: skip
    (tmp_path / "body.json").write_text(json.dumps(body))
    words, window = read_file(tmp_path / "body.json")
    assert words == FoundExplanation(UnitId("s_6-res", 4), "how_who", "bees")
    assert isinstance(window, FoundWindow)
    assert window.activations == values


def test_a_batch_of_saedashboard_gives_windows_once(tmp_path: Path) -> None:
    activations = [
        {"bin_min": -1, "bin_max": 7, "bin_contains": -1, "tokens": t, "values": a}
        for t, a in [*_windows(4), *_windows(2)]
    ]
    batch = {"model_id": "m", "layer": 6, "sae_set": "res-jb", "sae_id_suffix": None,
             "features": [{"feature_index": 2, "activations": activations}]}  # fmt: skip
    (tmp_path / "batch-0.json").write_text(json.dumps(batch))
    found = import_files([tmp_path / "batch-0.json"], tmp_path / "taken")
    assert found.windows == {"s_6-res-jb": 4}


def test_results_of_delphi_are_read_by_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "explanations"
    folder.mkdir()
    (folder / "layers.6_latent14.txt").write_text(json.dumps("Words about bees."))
    (folder / "layers.6_latent15.txt").write_text('[{"distance": 1}]')
    (folder / "notes.txt").write_text('"x"')
    found = list(read_file(folder / "layers.6_latent14.txt"))
    assert found == [FoundExplanation(UnitId("layers.6", 14), "delphi", "Words about bees.")]
    taken = import_files([folder], tmp_path / "taken", ["features"])
    assert taken.explanations == {"delphi": 1}
    assert [r.where for r in taken.refused] == ["notes.txt"]


def test_malformed_rows_are_named_by_line_and_good_ones_go_on(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text('unit,explanation\nf/0,bees\nf,hens\nf/1,"a, b"\nf/2,\nf/3,x,y\nf/4,' +
                    "z" * 3000 + "\n")  # fmt: skip
    found = import_files([path], tmp_path / "taken")
    assert found.explanations == {"imported": 2}
    assert [r.where for r in found.refused] == [f"mine.csv, line {n}" for n in (3, 5, 6, 7)]
    listed = (tmp_path / "taken" / "refused.txt").read_text()
    assert "mine.csv, line 3: 'f' is not a unit" in listed


_HOSTILE: dict[str, Any] = {
    "deep.jsonl": "[" * 100_000,
    "deep.json": '{"a":' * 100_000,
    "number.jsonl": '{"unit": "f/1", "tokens": ["a"], "activations": [1' + "0" * 400 + "]}",
    "nan.jsonl": '{"unit": "f/1", "tokens": ["a"], "activations": [NaN]}',
    "pickle.parquet": b"\x80\x04cos\nsystem\n",
    "not.jsonl.gz": b"plain",
    "types.jsonl": '{"neuron_id": 7, "random_sample": 3}',
    "lists.jsonl": '{"neuron_id": {"layer_index": 1, "neuron_index": 1}, "random_sample": [3]}',
    "features.json": '{"sae_set": "x", "features": [1, {"feature_index": "a"}]}',
    "layer.jsonl": '{"modelId": "m", "layer": ["x"], "index": 1, "description": "d"}',
    "path.jsonl": '{"modelId": "m", "layer": "../../x", "index": -1, "description": "d"}',
    "version.jsonl": '{"schema_version": 99, "provenance": {}}',
    "binary.csv": b"unit,explanation\n\xff\xfe\x00",
    "list.jsonl": "[1, 2]",
    "index.jsonl": '{"unit": "f/99999999999", "explanation": "x"}',
}


@pytest.mark.parametrize("name", sorted(_HOSTILE))
def test_hostile_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    content = _HOSTILE[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = list(read_file(tmp_path / name))
    assert found
    assert all(isinstance(f, Refused) and f.where.startswith(name) for f in found)
    with pytest.raises(AutointerpError, match="nothing could be used"):
        import_files([tmp_path / name], tmp_path / "taken")
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_a_file_name_from_a_file_stays_in_the_folder(tmp_path: Path) -> None:
    row = {"modelId": "m", "layer": "../../x", "index": 1, "description": "d",
           "typeName": "../..", "explanationModelName": "a/../../b"}  # fmt: skip
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    import_files([tmp_path / "x.jsonl"], tmp_path / "taken")
    assert {p.name for p in tmp_path.iterdir()} == {"x.jsonl", "taken"}
    assert len(list((tmp_path / "taken" / "explanations").iterdir())) == 1


def test_long_lines_and_bombs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_LINE", 100)
    monkeypatch.setattr(read, "MAX_FILE", 100)
    good = '{"unit": "f/1", "explanation": "bees"}\n'
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wt") as file:
        file.write(good + "a" * 1000)
    words, refused = read_file(tmp_path / "bomb.jsonl.gz")
    assert isinstance(words, FoundExplanation)
    assert isinstance(refused, Refused)
    assert "line 2 is longer than 100 bytes" in refused.reason
    (tmp_path / "long.json").write_text(" " * 200)
    (refused,) = read_file(tmp_path / "long.json")
    assert isinstance(refused, Refused)
    assert "longer than 100 bytes" in refused.reason


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("unit,explanation\nf/0,bees\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("dear")
    with pytest.raises(AutointerpError, match=r"holds other files \(thesis.txt\)"):
        import_files([tmp_path / "x.csv"], tmp_path / "other")
    with pytest.raises(UsageError, match="does not exist"):
        import_files([tmp_path / "y.csv"], tmp_path / "taken")
    with pytest.raises(UsageError, match="lie in each other"):
        import_files([tmp_path], tmp_path / "taken")
    with pytest.raises(UsageError, match="expected NAME or OLD=NAME"):
        import_files([tmp_path / "x.csv"], tmp_path / "taken", ["a b"])
    assert (tmp_path / "other" / "thesis.txt").read_text() == "dear"
    # Again over what an import wrote.
    for _ in range(2):
        assert import_files([tmp_path / "x.csv"], tmp_path / "taken").explanations == {
            "imported": 1
        }


def test_units_of_several_sources_are_renamed_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("unit,explanation\na/0,bees\nb/0,hens\n")
    with pytest.raises(UsageError, match="OLD=NAME"):
        import_files([tmp_path / "x.csv"], tmp_path / "taken", ["c"])
    import_files([tmp_path / "x.csv"], tmp_path / "taken", ["a=c"])
    texts = read_texts(tmp_path / "taken" / "explanations" / "imported.jsonl")
    assert set(texts) == {UnitId("c", 0), UnitId("b", 0)}
