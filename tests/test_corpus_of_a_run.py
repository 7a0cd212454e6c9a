"""The corpus of a run: paths beside the config, mixes, several tokenizers, what is written down."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from autointerp.config import RunConfig, load_config, parse_config
from autointerp.progress import Silent
from autointerp.recording import corpus as corpus_package
from autointerp.recording.corpus import Source
from autointerp.recording.corpus.unread import files_digest
from autointerp.records import AutointerpError, UsageError
from autointerp.runner import Run, run
from autointerp.store import RunStore
from tests.conftest import tiny_model
from tests.run_helpers import small_config, write_corpus


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)


@pytest.fixture(scope="module")
def gpt2_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 with a tokenizer of its own, of 300 tokens, that puts BOS before texts."""
    folder = tmp_path_factory.mktemp("tiny_gpt2")
    texts = write_corpus(folder / "corpus.jsonl").read_text().splitlines()
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder).train_new_from_iterator(texts, 300)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    bos, number = tokenizer.bos_token, tokenizer.bos_token_id
    backend["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": bos, "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [],
        "special_tokens": {bos: {"id": bos, "ids": [number], "tokens": [bos]}},
    }
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(backend))
    tiny_model("gpt2", vocabulary=len(tokenizer), n_blocks=2).save_pretrained(folder)
    return folder


def test_subjects_with_different_tokenizers_share_documents_and_splits(
    tmp_path: Path, tiny_folder: Path, gpt2_folder: Path
) -> None:
    place = "blocks.0.mlp.hook_post"
    both = small_config(
        tmp_path,
        tiny_folder,
        subjects={
            "llama": {"model": str(tiny_folder), "device": "cpu"},
            "gpt2": {"model": str(gpt2_folder), "device": "cpu"},
        },
        sources={
            "a": {"type": "neurons", "subject": "llama", "hook_point": place},
            "b": {"type": "neurons", "subject": "gpt2", "hook_point": place},
        },
    )
    work = Run(both, Silent(), None)
    assert run(both, until="record") is None
    names = {name: work.parts.subject(name).tokenizer_name for name in both.subjects}
    store = RunStore(both.output or "")
    tables = {name: store.read_sequences(key) for name, key in names.items()}
    splits = [{s.document_id: s.split for s in tables[name]} for name in names]
    assert len(splits[0]) == 60 and splits[0] == splits[1]
    assert len({s.sequence_id for s in store.read_sequences()}) == sum(map(len, tables.values()))
    for name, sequences in tables.items():
        tokenizer = work.parts.subject(name).tokenizer
        document = work.parts.corpus.documents.get(sequences[0].document_id)
        before = 1 if name == "gpt2" else 0
        own = tokenizer(document.text)["input_ids"][: len(sequences[0].token_ids)]
        assert own == sequences[0].token_ids.tolist()
        assert sequences[0].masked.tolist() == [True, *[False] * (len(own) - 1)]
        vocabulary = store.read_vocabulary(names[name])
        spelled = "".join(vocabulary[i] for i in sequences[0].token_ids[before:])
        assert document.text.startswith(spelled)
    written = store.read_json("corpus.json")["subjects"]
    assert written["gpt2"]["bos"] == {"policy": "auto", "before_every_sequence": ["<|im_start|>"]}
    assert written["llama"]["bos"]["before_every_sequence"] == []

    for source, subject in (("a", "llama"), ("b", "gpt2")):
        unit = next(store.read_units([store.units(source)[3].unit]))
        vocabulary = set(store.read_vocabulary(names[subject]))
        for record in unit.records:
            assert set(record.tokens) <= vocabulary
            assert "<|im_start|>" not in record.tokens
        tops = [t.token for s in unit.statistics.values() for t in s.top_tokens]
        assert tops and set(tops) <= vocabulary


def test_two_subjects_of_one_tokenizer_share_its_sequences(
    tmp_path: Path, tiny_folder: Path
) -> None:
    subject = {"model": str(tiny_folder), "device": "cpu"}
    config = small_config(
        tmp_path,
        tiny_folder,
        subjects={"one": subject, "two": subject},
        sources={
            name: {"type": "neurons", "subject": name, "hook_point": "blocks.0.mlp.hook_post"}
            for name in ("one", "two")
        },
    )
    run(config, until="corpus")
    alone = small_config(tmp_path, tiny_folder, output=str(tmp_path / "alone"))
    run(alone, until="corpus")
    ids = [
        [s.sequence_id for s in RunStore(c.output or "").read_sequences()] for c in (config, alone)
    ]
    assert ids[0] == ids[1]


def test_imported_units_and_recorded_ones_stand_in_one_run(
    tmp_path: Path, tiny_folder: Path
) -> None:
    rows = [
        {"unit": "u/0", "document": f"e{i}", "tokens": ["ab", "cd"], "activations": [0.0, i]}
        for i in range(40)
    ]
    (tmp_path / "units.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = small_config(
        tmp_path,
        tiny_folder,
        sources={
            "neurons": {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post"},
            "elsewhere": {"type": "recorded", "path": str(tmp_path / "units.jsonl")},
        },
    )
    run(config, until="record")
    store = RunStore(config.output or "")
    unit = next(store.read_units([store.units("elsewhere")[0].unit]))
    assert {token for record in unit.records for token in record.tokens} == {"ab", "cd"}
    assert len(store.units("neurons")) == 128


def test_a_run_says_what_its_corpus_is_made_of(tmp_path: Path, tiny_folder: Path) -> None:
    write_corpus(tmp_path / "a.jsonl", 60, seed=1)
    write_corpus(tmp_path / "b.jsonl", 60, seed=2)
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'{"text": "\xff"}\n')
    (tmp_path / "c.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes())
    parts = [{"path": str(tmp_path / f"{name}.jsonl"), "weight": w} for name, w in
             (("a", 2), ("b", 1))]  # fmt: skip
    corpus = {"mix": parts, "sequence_length": 33, "window_length": 8, "max_tokens": 4000}
    config = small_config(tmp_path, tiny_folder, corpus=corpus)
    heard = Notes()
    run(config, reporter=heard, until="corpus")
    found = RunStore(config.output or "").read_json("corpus.json")
    taken = list(found["subjects"]["subject"]["tokens"].values())
    assert sum(taken) <= 4000 and taken[0] / taken[1] == pytest.approx(2, rel=0.15)
    assert found["reading"]["unreadable"] == {"not UTF-8 text": 1}
    assert sum(found["subjects"]["subject"]["documents"].values()) > 40
    (line,) = heard.lines
    assert line.startswith("skipped in the corpus: 1 × not UTF-8 text (the first: ")


def test_relative_paths_are_found_beside_the_config_then_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, working = tmp_path / "configs", tmp_path / "here"
    beside.mkdir()
    working.mkdir()
    monkeypatch.chdir(working)

    def path_of(name: str) -> str | None:
        data = {
            "subjects": {"subject": {}},
            "corpus": {"mix": [{"path": name}]},
            "sources": {"n": {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post"}},
            "explainers": [{"name": "t", "type": "top_tokens"}],
        }
        (beside / "run.yaml").write_text(yaml.safe_dump(data))
        config = load_config(Path("..") / "configs" / "run.yaml", RunConfig)
        assert config.corpus is not None and config.corpus.mix is not None
        return config.corpus.mix[0].path

    (beside / "a.txt").write_text("beside")
    (working / "b.txt").write_text("here")
    assert Path(path_of("a.txt") or "").read_text() == "beside"
    assert path_of("b.txt") == "b.txt"
    assert path_of("nowhere.txt") == "nowhere.txt"
    assert path_of("demo") == "demo"
    assert path_of(str(beside / "a.txt")) == str(beside / "a.txt")
    (working / "a.txt").write_text("here")
    with pytest.raises(UsageError, match=r"corpus\.mix\.0\.path: 'a\.txt' is both .*in full"):
        path_of("a.txt")
    (working / "a.txt").unlink()
    (working / "a.txt").symlink_to(beside / "a.txt")
    assert Path(path_of("a.txt") or "").read_text() == "beside"
    monkeypatch.chdir(beside)
    assert path_of("a.txt") == "a.txt"


def test_a_corpus_that_is_nowhere_is_refused_with_where_it_was_looked_for(
    tmp_path: Path, tiny_folder: Path
) -> None:
    corpus = {"path": "nowhere.jsonl", "sequence_length": 33, "window_length": 8}
    config = small_config(tmp_path, tiny_folder, corpus=corpus)
    with pytest.raises(AutointerpError, match=r"there is no .*nowhere\.jsonl; paths in a config"):
        run(config, until="corpus")


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ({}, r"corpus: give one of `path` and `dataset`, or a `mix`"),
        ({"path": "a", "dataset": "b"}, r"corpus: give one of `path` and `dataset`"),
        ({"path": "a", "mix": [{"path": "b"}]}, r"corpus: `mix` stands instead of `path`"),
        ({"mix": []}, r"corpus\.mix: .*at least 1 item"),
        ({"mix": [{"weight": 1}]}, r"corpus\.mix\.0: give one of"),
        ({"mix": [{"path": "a", "weight": 0}]}, r"corpus\.mix\.0\.weight: .*greater than 0"),
        ({"path": "a", "dataset_split": "test"}, r"dataset_config and dataset_split are of"),
        ({"dataset": "a/b"}, r"corpus: data set 'a/b' is read without end: set max_tokens"),
        ({"path": "a", "bos": "yes"}, r"corpus\.bos: .*'auto', 'always' or 'never'"),
    ],
)
def test_a_corpus_that_makes_no_sense_is_refused_by_key(corpus: dict, message: str) -> None:
    data = {
        "subjects": {"subject": {}},
        "corpus": corpus,
        "sources": {"n": {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post"}},
        "explainers": [{"name": "t", "type": "top_tokens"}],
    }
    with pytest.raises(UsageError, match=message):
        parse_config(data, RunConfig, "test")


def test_texts_are_not_read_again_for_their_key_while_their_files_are_the_same(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tmp_path, tiny_folder)
    run(config, until="corpus")
    readings: list[Any] = []
    read = corpus_package.read_sources

    def counted(*args: Any, **more: Any) -> Any:
        readings.append(args)
        return read(*args, **more)

    monkeypatch.setattr(corpus_package, "read_sources", counted)
    first = RunStore(config.output).corpus_key()
    again = Run(config, Silent(), None)
    assert again.corpus_stage.key == first and not readings
    assert again.corpus_stage.fingerprint == again.parts.corpus.fingerprint()

    facts = json.loads((Path(config.output) / "corpus.json").read_text())
    del facts["made_of"]
    (Path(config.output) / "corpus.json").write_text(json.dumps(facts))
    readings.clear()
    assert Run(config, Silent(), None).corpus_stage.key == first and readings

    with Path(str(config.corpus.path)).open("a") as file:
        file.write(json.dumps({"text": "one more text of several words"}) + "\n")
    readings.clear()
    changed = Run(config, Silent(), None).corpus_stage.key
    assert changed != first and readings


def test_a_digest_of_files_knows_names_bytes_and_settings(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    one = tmp_path / "in" / "a.txt"
    one.write_text("some text")
    folder = Source(tmp_path / "in")

    def digest(source: Source = folder, seed: int = 0) -> str | None:
        return files_digest([source], seed=seed)

    seen = [digest(), digest(seed=1), digest(replace(folder, max_documents=3))]
    (tmp_path / "in" / "ignored.bin").write_text("not read")
    assert digest() == seen[0]
    one.write_text("some toxt")
    seen.append(digest())
    one.rename(tmp_path / "in" / "b.txt")
    seen.append(digest())
    assert None not in seen and len(set(seen)) == len(seen)
    assert digest(Source(tmp_path / "absent")) is None
    assert digest(Source(dataset="some/data")) is None
