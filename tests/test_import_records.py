"""Units recorded elsewhere are explained and scored without a subject."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.config import RunConfig, parse_config
from autointerp.import_records import start_from_records
from autointerp.recording.imported import import_records
from autointerp.records import AutointerpError, Split, UsageError
from autointerp.runner import run
from autointerp.store import RunStore


def rows(n_documents: int = 60) -> list[dict[str, Any]]:
    """One unit that fires on " bees" and one on " rain", over made-up windows."""
    made = []
    for number in range(n_documents):
        tokens = ["The", f" farm{number}", " kept", " bees" if number % 2 else " hens", " in",
                  " rain" if number % 3 else " sun", f" year{number}", "."]  # fmt: skip
        for unit, word in (("made/0", " bees"), ("made/1", " rain")):
            acts = [7.0 if token == word else 0.0 for token in tokens]
            made.append(
                {"unit": unit, "tokens": tokens, "activations": acts, "document": f"doc {number}"}
            )
    return made


def write_jsonl(path: Path, content: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in content) + "\n")
    return path


def test_the_command_and_a_run_explain_and_score_recorded_units(tmp_path: Path) -> None:
    path = tmp_path / "made.parquet"
    pq.write_table(pa.Table.from_pylist(rows()), path)
    folder = tmp_path / "run"
    runner = CliRunner()
    found = runner.invoke(app, ["import-records", str(path), "--output", str(folder)])
    assert found.exit_code == 0, found.output
    config = (folder / "import.yaml").read_text()
    (folder / "import.yaml").write_text(
        config.replace("- name: top_tokens\n  type: top_tokens\n", "")
    )
    found = runner.invoke(app, ["run", str(folder / "import.yaml"), "--json"])
    assert found.exit_code == 0, found.output
    summary = json.loads((folder / "summary.json").read_text())
    group = summary["sources"]["recorded"]["explainers"]["token_lookup"]
    assert group["counts"]["scored"] == 2
    assert group["score"]["excluded"]["mean"] > 0.98
    assert group["lift"]["excluded"]["mean"] > 0.8


def test_rows_of_one_document_stay_in_one_split(tmp_path: Path) -> None:
    found = import_records(write_jsonl(tmp_path / "made.jsonl", rows()))
    splits: dict[str, set[Split]] = {}
    for unit in found.units:
        for record in unit.records:
            splits.setdefault(record.document_id, set()).add(record.split)
    assert len(splits) == 60
    assert all(len(own) == 1 for own in splits.values())


def test_given_splits_are_kept_and_contradictions_refused(tmp_path: Path) -> None:
    given = [row | {"split": "test"} for row in rows(4)]
    found = import_records(write_jsonl(tmp_path / "made.jsonl", given))
    assert {record.split for unit in found.units for record in unit.records} == {Split.TEST}
    given[0]["split"] = "explain"
    with pytest.raises(AutointerpError, match="belong to one split"):
        import_records(write_jsonl(tmp_path / "made.jsonl", given))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"unit": "made/0", "tokens": ["a"], "activations": [1, 2]}, "1 tokens but 2 activations"),
        ({"unit": "made/0", "tokens": ["a"], "activations": [None]}, "not all numbers|NaN"),
        ({"unit": "made/x", "tokens": ["a"], "activations": [1]}, "is not a unit"),
        ({"tokens": ["a"], "activations": [1]}, "no `unit`"),
        ({"unit": "made/0", "tokens": "abc", "activations": [1]}, "not a list of texts"),
        ({"unit": "made/0", "tokens": ["a"], "activations": [1], "split": "train"}, "train"),
        ([1, 2], "not an object"),
        ({"unit": None, "tokens": ["a"], "activations": [1]}, "no `unit`"),
        ({"unit": "made/9999999999", "tokens": ["a"], "activations": [1]}, "is not a unit"),
        ({"unit": "made/" + "9" * 5000, "tokens": ["a"], "activations": [1]}, "is not a unit"),
        ({"unit": "made/0", "tokens": ["a"], "activations": [True]}, "not all numbers"),
        ({"unit": "made/0", "tokens": ["a"], "activations": ["1.5"]}, "not all numbers"),
        ({"unit": "made/0", "tokens": ["a"], "activations": [[1.0]]}, "not all numbers"),
        ({"unit": "made/0", "tokens": ["a"], "activations": [10**400]}, "beyond 3e38"),
        ({"unit": "made/0", "tokens": ["a"], "activations": [1e300]}, "beyond 3e38"),
        ({"unit": "made/0", "tokens": ["a"], "activations": [float("inf")]}, "infinity"),
        (rows(1)[0], "made/0|recorded/0 had the same tokens"),
    ],
)
def test_a_malformed_row_is_named_and_the_rest_goes_on(bad: Any, said: str, tmp_path: Path) -> None:
    import re

    found = import_records(write_jsonl(tmp_path / "made.jsonl", [*rows(4), bad]))
    assert len(found.units) == 2
    assert len(found.rejected) == 1
    assert "line 9" in found.rejected[0]
    assert re.search(said, found.rejected[0])


def test_a_file_without_a_usable_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutointerpError, match="no usable row"):
        import_records(write_jsonl(tmp_path / "made.jsonl", [{"unit": "x"}]))
    with pytest.raises(AutointerpError, match=r"neither \.parquet nor \.jsonl"):
        (tmp_path / "made.txt").write_text("x")
        import_records(tmp_path / "made.txt")


def test_a_unit_that_fires_only_in_test_has_no_explain_maximum(tmp_path: Path) -> None:
    made = [
        {"unit": "made/0", "tokens": ["a", f"b{i}"], "document": f"d{i}", "split": split,
         "activations": [float(split == "test"), 0.0]}
        for i, split in enumerate(["explain", "explain", "test", "test"])
    ]  # fmt: skip
    unit = import_records(write_jsonl(tmp_path / "made.jsonl", made)).units[0]
    assert unit.explain_maximum() == 0


@pytest.mark.parametrize("line", ["[" * 100_000, '{"unit": ' + "1" * 5000 + "}", "{"])
def test_a_line_that_no_parser_takes_is_named(line: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "made.jsonl", rows(4))
    path.write_text(path.read_text() + line + "\n")
    (rejected,) = import_records(path).rejected
    assert rejected.startswith("made.jsonl, line 9: not JSON")


def test_units_of_two_sources_are_not_taken_for_one(tmp_path: Path) -> None:
    made = rows(4) + [row | {"unit": "other/0"} for row in rows(4)]
    with pytest.raises(AutointerpError, match=r"2 sources \(made, other\)"):
        import_records(write_jsonl(tmp_path / "made.jsonl", made))


def test_hostile_rows_go_through_a_whole_run(tmp_path: Path) -> None:
    """Half surrogate pairs, null bytes, line separators, empty tokens, activations of any size."""
    made = rows()
    for number, row in enumerate(made):
        row["tokens"] = ["\ud800", "\u2028\0</td>", "", *row["tokens"]]
        scale = 1e7 if row["unit"] == "made/0" else 1e-12
        row["activations"] = [0, 0, 0, *(value * scale for value in row["activations"])]
        row["document"] = f"\udfff{number // 2}"
    runner = CliRunner()
    path = write_jsonl(tmp_path / "12 of\nmine.jsonl", made)
    folder = tmp_path / "7 runs"
    found = runner.invoke(app, ["import-records", str(path), "--output", str(folder)])
    assert found.exit_code == 0, found.output
    found = runner.invoke(app, ["run", str(folder / "import.yaml"), "--json"])
    assert found.exit_code == 0, found.output
    summary = json.loads((folder / "summary.json").read_text())
    group = summary["sources"]["recorded"]["explainers"]["token_lookup"]
    assert group["counts"]["scored"] == 2
    assert group["score"]["excluded"]["mean"] > 0.98


def test_two_files_may_use_one_documents_name(tmp_path: Path) -> None:
    """Each keeps the text of its own."""
    sources = {}
    for name, word in (("a", "apples"), ("b", "boats")):
        made = [
            {"unit": "0", "tokens": [word, f" {i}"], "activations": [float(i), 0], "document": "d"}
            for i in range(3)
        ]
        path = write_jsonl(tmp_path / f"{name}.jsonl", made)
        sources[name] = {"type": "recorded", "path": str(path)}
    config = parse_config(
        {
            "output": str(tmp_path / "run"),
            "sources": sources,
            "explainers": [{"name": "top_tokens", "type": "top_tokens"}],
        },
        RunConfig,
        "test",
    )
    run(config, until="record")
    store = RunStore(config.output or "")
    sequences, facts = store.read_sequences(), store.read_facts()
    vocabulary = RunStore(config.output or "").read_vocabulary()
    assert len(sequences) == 6
    for sequence in sequences:
        tokens = "".join(vocabulary[i] for i in sequence.token_ids)
        assert facts[sequence.sequence_id]["text"] == tokens
    one = sequences[2].sequence_id
    assert store.read_facts({one, "of no sequence"}) == {one: facts[one]}


def test_an_edited_config_is_not_written_over(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "made.jsonl", rows(4))
    start_from_records(path, tmp_path / "run")
    _, config = start_from_records(path, tmp_path / "run")
    config.write_text(config.read_text() + "seed: 3\n")
    with pytest.raises(AutointerpError, match="was edited"):
        start_from_records(path, tmp_path / "run")


@pytest.mark.parametrize(
    "part",
    [
        {"explainers": [{"name": "tests", "type": "agent"}]},
        {"scorers": [{"name": "tests", "type": "generative"}]},
    ],
)
def test_what_asks_the_live_subject_is_refused_before_anything_is_paid(
    tmp_path: Path, part: dict[str, Any]
) -> None:
    path = write_jsonl(tmp_path / "made.jsonl", rows(4))
    _, file = start_from_records(path, tmp_path / "run")
    config = parse_config({**yaml.safe_load(file.read_text()), **part}, RunConfig, "config")
    with pytest.raises(UsageError, match="'tests' asks the live subject, and source 'recorded'"):
        run(config)


def test_a_byte_order_mark_and_windows_line_ends_lose_no_row(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "plain.jsonl", rows(20))
    other = tmp_path / "windows.jsonl"
    other.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    found = import_records(other)
    assert not found.rejected
    assert found.fingerprint() == import_records(path).fingerprint()


def test_a_small_parquet_file_that_unfolds_to_endless_windows_is_refused(tmp_path: Path) -> None:
    n = 400_000
    tokens = pa.ListArray.from_arrays([0, n], pa.repeat("a", n))
    activations = pa.ListArray.from_arrays([0, n], pa.repeat(1.0, n))
    columns = {"unit": ["0"], "tokens": tokens, "activations": activations}
    pq.write_table(pa.table(columns), tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 20_000
    with pytest.raises(AutointerpError, match=r"bomb\.parquet has 400,000 values in 1 rows"):
        import_records(tmp_path / "bomb.parquet")


def test_text_of_parquet_that_is_not_utf8_is_said_in_a_line(tmp_path: Path) -> None:
    bad = pa.array([b"\xff\xfe"]).view(pa.string())
    columns = {"unit": bad, "tokens": [["a"]], "activations": [[1.0]]}
    pq.write_table(pa.table(columns), tmp_path / "bad.parquet")
    with pytest.raises(AutointerpError, match=r"bad\.parquet cannot be read as Parquet"):
        import_records(tmp_path / "bad.parquet")


def test_negative_activations_are_told_of(tmp_path: Path) -> None:
    content = rows(4)
    content[0]["activations"][0] = -2.5
    content.append({**content[1], "unit": "made/1-", "activations": [-1.0] + [0.0] * 7})
    path = write_jsonl(tmp_path / "made.jsonl", content)
    found = import_records(path)
    assert found.n_negative == 1
    assert found.units[0].records[0].activations.min() == 0
    (refused,) = found.rejected
    assert "negative side" in refused and "magnitudes" in refused
    told = CliRunner().invoke(app, ["import-records", str(path), "--output", str(tmp_path / "r")])
    assert "1 activations below 0 were taken as 0" in told.output
