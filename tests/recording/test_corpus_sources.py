"""Data sets, mixes and limits: which documents a corpus takes, and in which order."""

import json
import random
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autointerp.recording.corpus import Cutting, Source, cut_corpus, read_corpus, read_sources
from autointerp.records import AutointerpError, UsageError

WORDS = [f"w{i}" for i in range(400)]


def write(path, n, seed, n_words=60):
    generator = random.Random(seed)
    texts = [" ".join(generator.choices(WORDS, k=n_words)) for _ in range(n)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def cut(corpus, tokenizer, max_tokens=None, **settings):
    return cut_corpus(corpus, tokenizer, Cutting(33, 1, 9, **settings), max_tokens)


def test_a_data_set_is_streamed(tmp_path):
    rows = [{"text": f"text {i}", "id": f"n{i}", "more": i} for i in range(20)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "validation.jsonl").write_text('{"text": "only here"}\n')
    corpus = read_sources([Source(dataset=str(tmp_path), max_documents=7)])
    assert [d.text for d in corpus.documents] == [f"text {i}" for i in range(7)]
    assert [d.name for d in corpus.documents] == [f"n{i}" for i in range(7)]


def test_a_data_set_has_splits_and_columns(tmp_path):
    for name in ("train", "test"):
        pq.write_table(pa.table({"body": [name], "n": [1]}), tmp_path / f"{name}.parquet")
    source = Source(dataset=str(tmp_path), dataset_split="test", text_field="body")
    assert [d.text for d in read_sources([source]).documents] == ["test"]
    with pytest.raises(AutointerpError, match=r"has no column 'text'; its columns: body, n"):
        read_sources([Source(dataset=str(tmp_path))])
    with pytest.raises(AutointerpError, match=r"split 'other'.*could not be read"):
        read_sources([Source(dataset=str(tmp_path), dataset_split="other", text_field="body")])
    with pytest.raises(AutointerpError, match=r"data set '.*nothing'.*could not be read"):
        read_sources([Source(dataset=str(tmp_path / "nothing"))])


def test_a_data_set_is_read_no_further_than_needed(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    taken = []

    class Endless:
        column_names = None

        def __iter__(self):
            for number in range(10**9):
                taken.append(number)
                yield {"text": f"text {number} " * 10}

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Endless())
    corpus = read_sources([Source(dataset="endless")], max_tokens=1000)
    read = sum(len(d.text) for d in corpus.documents)
    assert 16_000 <= read < 16_500
    assert len(taken) <= len(corpus.documents) + 1


def test_without_the_library_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'autointerp\[hub\]'"):
        read_sources([Source(dataset="some/set", max_documents=1)])


def test_a_mix_has_the_shares_of_its_weights_in_tokens(tmp_path, tokenizer):
    long = Source(write(tmp_path / "long.jsonl", 60, 1, n_words=200), weight=3)
    short = Source(write(tmp_path / "short.jsonl", 200, 2, n_words=40), weight=1)
    corpus = read_sources([long, short])
    found = cut(corpus, tokenizer, 8000)
    assert sum(found.tokens_of_sources) == pytest.approx(8000, abs=700)
    assert found.tokens_of_sources[0] / found.tokens_of_sources[1] == pytest.approx(3, rel=0.15)
    assert found.exhausted is None
    again = cut(read_sources([long, short]), tokenizer, 8000)
    assert [s.sequence_id for s in again.sequences] == [s.sequence_id for s in found.sequences]


def test_a_mix_ends_with_the_source_that_runs_out(tmp_path, tokenizer):
    few = Source(write(tmp_path / "few.jsonl", 3, 1))
    many = Source(write(tmp_path / "many.jsonl", 50, 2))
    found = cut(read_sources([many, few]), tokenizer)
    assert found.exhausted == 1
    assert found.tokens_of_sources[0] == pytest.approx(found.tokens_of_sources[1], rel=0.4)


def test_a_text_of_two_sources_belongs_to_the_first(tmp_path):
    write(tmp_path / "a.jsonl", 5, 1)
    write(tmp_path / "b.jsonl", 8, 1)
    corpus = read_sources([Source(tmp_path / "a.jsonl"), Source(tmp_path / "b.jsonl")])
    assert [part for _, part in corpus.documents.parts()].count(0) == 5
    assert (len(corpus.documents), corpus.n_duplicates) == (8, 5)


def test_a_source_of_a_mix_without_text_is_named(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    sources = [Source(write(tmp_path / "a.jsonl", 5, 1)), Source(tmp_path / "empty.jsonl")]
    with pytest.raises(AutointerpError, match=r"empty\.jsonl' holds no text"):
        read_sources(sources)


def test_weights_and_places_of_texts_are_part_of_the_fingerprint(tmp_path):
    a, b = Source(write(tmp_path / "a.jsonl", 5, 1)), Source(write(tmp_path / "b.jsonl", 5, 2))
    assert read_sources([a, b]).fingerprint() != read_sources([b, a]).fingerprint()


def test_a_limit_on_tokens_takes_the_same_documents_as_reading_everything(tmp_path, tokenizer):
    path = write(tmp_path / "c.jsonl", 400, 3)
    everything = cut(read_corpus(path), tokenizer, 2000)
    limited = read_sources([Source(path)], max_tokens=2000)
    assert limited.report.n_beyond_limit == 400 - len(limited.documents) > 100
    found = cut(limited, tokenizer, 2000)
    assert [s.sequence_id for s in found.sequences] == [s.sequence_id for s in everything.sequences]
    assert [s.split for s in found.sequences] == [s.split for s in everything.sequences]


def test_another_seed_takes_another_part(tmp_path, tokenizer):
    path = write(tmp_path / "c.jsonl", 200, 3)
    taken = [
        {s.document_id for s in cut(
            read_sources([Source(path)], max_tokens=2000, seed=seed), tokenizer, 2000
        ).sequences}
        for seed in (0, 1, 1)
    ]  # fmt: skip
    assert taken[1] == taken[2]
    assert len(taken[0] & taken[1]) < len(taken[0]) / 2


def test_a_document_longer_than_all_tokens_is_left_out_and_counted(tmp_path, tokenizer):
    path = write(tmp_path / "c.jsonl", 20, 3)
    with path.open("a") as file:
        file.write(json.dumps({"text": "word " * 50_000}) + "\n")
    corpus = read_corpus(path)
    assert len({s.document_id for s in cut(corpus, tokenizer, 3000).sequences}) > 5
    assert cut(corpus, tokenizer, 10**6).n_too_long == 0
    beginnings = cut(corpus, tokenizer, 3000, max_tokens_per_document=100)
    assert beginnings.n_too_long == 0


def test_the_beginning_of_a_long_document_has_the_tokens_of_the_whole(tmp_path, tokenizer):
    text = " ".join(np.random.default_rng(0).choice(WORDS, 30_000))
    (tmp_path / "c.txt").write_text(text)
    corpus = read_corpus(tmp_path / "c.txt")
    whole, part = cut(corpus, tokenizer), cut(corpus, tokenizer, max_tokens_per_document=320)
    assert len(part.sequences) == 10
    for a, b in zip(whole.sequences, part.sequences, strict=False):
        assert np.array_equal(a.token_ids[: len(b.token_ids)], b.token_ids)


def test_documents_are_read_in_order_and_by_place(tmp_path):
    corpus = read_corpus(write(tmp_path / "c.jsonl", 10, 1))
    documents = list(corpus.documents)
    assert corpus.documents[3] == documents[3] and corpus.documents[-1] == documents[9]
    assert corpus.documents[2:4] == documents[2:4]
    assert corpus.documents.get(documents[5].document_id) == documents[5]
    with pytest.raises(KeyError):
        corpus.documents.get("0" * 16)
