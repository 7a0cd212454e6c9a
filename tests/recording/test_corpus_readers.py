"""Corpora from anywhere: every kind of file is read, and what cannot be read is counted."""

import gzip
import json
import os
import sys
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autointerp.recording.corpus import read_corpus, readers
from autointerp.records import AutointerpError

GOOD = [f"a sound text, number {i}" for i in range(30)]


def lines(texts, field="text"):
    return "".join(json.dumps({field: text}) + "\n" for text in texts).encode()


def test_all_kinds_of_files_give_the_same_documents(tmp_path):
    texts = ["one naïve café", "two 北京 🙂", "three\nlines"]
    (tmp_path / "a.jsonl").write_bytes(lines(texts))
    with gzip.open(tmp_path / "b.jsonl.gz", "wb") as file:
        file.write(lines(texts))
    pq.write_table(pa.table({"text": texts, "n": [1, 2, 3]}), tmp_path / "c.parquet")
    (tmp_path / "d").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "d" / f"{number}.txt").write_text(text)
    with gzip.open(tmp_path / "e.txt.gz", "wb") as file:
        file.write(texts[0].encode())
    whole = read_corpus(tmp_path)
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet", "d"):
        assert [d.text for d in read_corpus(tmp_path / name).documents] == texts
        assert read_corpus(tmp_path / name).fingerprint() == whole.fingerprint()
    assert [d.text for d in read_corpus(tmp_path / "e.txt.gz").documents] == texts[:1]
    assert (whole.report.n_read, whole.n_duplicates) == (13, 10)


def test_rows_of_parquet_have_names_and_kinds(tmp_path):
    rows = {"body": pa.array(["x", "y"], pa.large_string()), "id": [7, 8], "kind": ["p", None]}
    pq.write_table(pa.table(rows), tmp_path / "c.parquet")
    corpus = read_corpus(tmp_path / "c.parquet", text_field="body")
    found = [(d.text, d.name, d.kind) for d in corpus.documents]
    assert found == [("x", "7", "p"), ("y", "8", "")]


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "c.parquet")
    with pytest.raises(AutointerpError, match=r"no column 'text'; its columns: .*body"):
        read_corpus(tmp_path / "c.parquet")
    with pytest.raises(AutointerpError, match=r"column 'n' holds int64, not text"):
        read_corpus(tmp_path / "c.parquet", text_field="n")


def test_a_damaged_parquet_file_is_refused_by_name(tmp_path):
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"text": GOOD}), path)
    for damaged in (b"PAR1", b"no parquet", path.read_bytes()[:200], b""):
        path.write_bytes(damaged)
        with pytest.raises(AutointerpError, match=r"c\.parquet cannot be read as parquet"):
            read_corpus(path)


def test_text_of_parquet_that_is_not_utf8_is_skipped_and_counted(tmp_path):
    raw = pa.array([t.encode() for t in GOOD] + [b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": raw}), tmp_path / "c.parquet")
    report = read_corpus(tmp_path / "c.parquet").report
    assert dict(report.unreadable) == {"not UTF-8 text": 1}
    assert "row 31" in report.first["not UTF-8 text"]


def test_a_few_bad_lines_are_skipped_counted_and_named(tmp_path):
    bad = [
        b'{"text": "\xff"}\n',
        b"{no json}\n",
        b'{"txt": "other field"}\n',
        b'{"text": 5}\n',
        b'{"text": null}\n',
        b"[" * 5000 + b"\n",
        b'{"text": "' + b"\\u0000" * 40 + b'"}\n',
    ]
    (tmp_path / "c.jsonl").write_bytes(lines(GOOD * 3) + b"".join(bad) + b"\n\n  \n")
    corpus = read_corpus(tmp_path / "c.jsonl")
    assert [d.text for d in corpus.documents] == GOOD
    assert dict(corpus.report.unreadable) == {
        "not UTF-8 text": 1,
        "not JSON": 2,
        "no text in field 'text'": 3,
        "binary data or UTF-16, by its NUL characters": 1,
    }
    assert "c.jsonl, line 93" in corpus.report.first["no text in field 'text'"]
    assert "the fields are: txt" in corpus.report.first["no text in field 'text'"]
    (skipped, repeated) = corpus.report.notes()
    assert "2 × not JSON (the first: " in skipped
    assert repeated == "60 repeated documents were dropped"
    json.dumps(corpus.report.as_json())


def test_more_than_a_tenth_of_bad_lines_is_refused_early(tmp_path):
    (tmp_path / "c.jsonl").write_bytes(lines(GOOD) + b'{"txt": "x"}\n' * 100_000)
    with pytest.raises(
        AutointerpError, match=r"line 31: no text in field 'text'.*200 of the 230.*text_field"
    ):
        read_corpus(tmp_path / "c.jsonl")


def test_a_few_nuls_stay_in_the_text(tmp_path):
    text = "a text with \0 one NUL in it"
    (tmp_path / "c.txt").write_text(text)
    assert read_corpus(tmp_path / "c.txt").documents[0].text == text


def test_utf16_is_named_for_what_it_is(tmp_path):
    (tmp_path / "c.txt").write_bytes("English without a mark".encode("utf-16-le"))
    with pytest.raises(AutointerpError, match="binary data or UTF-16"):
        read_corpus(tmp_path / "c.txt")


def test_a_byte_order_mark_and_windows_line_ends_are_no_text(tmp_path):
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    (tmp_path / "d.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(["three"]).replace(b"\n", b"\r\n"))
    assert [d.text for d in read_corpus(tmp_path).documents] == ["one\ntwo", "three"]


def test_a_line_of_ten_megabytes_is_a_document_and_a_longer_one_is_skipped(tmp_path, monkeypatch):
    long = "many words " * 1_000_000
    (tmp_path / "c.jsonl").write_bytes(lines([long]))
    assert read_corpus(tmp_path / "c.jsonl").documents[0].text == long
    monkeypatch.setattr(readers, "MAX_TEXT_BYTES", 10_000)
    (tmp_path / "c.jsonl").write_bytes(lines([*GOOD[:20], long, *GOOD[20:]]))
    corpus = read_corpus(tmp_path / "c.jsonl")
    assert [d.text for d in corpus.documents] == GOOD
    assert corpus.report.unreadable.total() == 1
    assert "line 21" in next(iter(corpus.report.first.values()))


def test_a_compressed_file_that_unfolds_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_GZIP_FREE_BYTES", 100_000)
    with gzip.open(tmp_path / "c.jsonl.gz", "wb") as file:
        file.write(lines(["\0" * 30_000_000]))
    with pytest.raises(AutointerpError, match=r"c\.jsonl\.gz unfolds to more than 100 times"):
        read_corpus(tmp_path / "c.jsonl.gz")


def test_a_parquet_file_of_one_text_a_million_times_is_read_in_little_memory(tmp_path):
    text = "x" * 1_000_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), [text])
    pq.write_table(pa.table({"text": column}), tmp_path / "c.parquet")
    assert (tmp_path / "c.parquet").stat().st_size < 1e6
    corpus = read_corpus(tmp_path / "c.parquet")
    assert (len(corpus.documents), corpus.n_duplicates) == (1, 2999)


@pytest.mark.parametrize("keep", [5, 40])
def test_a_truncated_or_damaged_gzip_file_is_refused_by_name(tmp_path, keep):
    data = gzip.compress(lines(GOOD))
    (tmp_path / "c.jsonl.gz").write_bytes(data[:keep])
    with pytest.raises(AutointerpError, match=r"c\.jsonl\.gz is damaged"):
        read_corpus(tmp_path / "c.jsonl.gz")
    (tmp_path / "c.jsonl.gz").write_bytes(zlib.compress(lines(GOOD)))
    with pytest.raises(AutointerpError, match=r"c\.jsonl\.gz is damaged"):
        read_corpus(tmp_path / "c.jsonl.gz")


def test_links_are_followed_and_loops_are_walked_once(tmp_path):
    inside, outside = tmp_path / "corpus", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "a.jsonl").write_bytes(lines(GOOD))
    (outside / "b.txt").write_text("from outside")
    (inside / "loop").symlink_to(inside)
    (inside / "there").symlink_to(outside)
    (outside / "back").symlink_to(inside)
    (inside / "broken.txt").symlink_to(inside / "nothing")
    (inside / "self.txt").symlink_to(inside / "self.txt")
    corpus = read_corpus(inside)
    assert [d.text for d in corpus.documents] == [*GOOD, "from outside"]
    assert corpus.report.n_read == 31
    assert dict(corpus.report.unreadable) == {"a broken link or no regular file": 2}


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are of Unix")
def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(GOOD))
    os.mkfifo(tmp_path / "pipe.txt")
    assert read_corpus(tmp_path).report.unreadable.total() == 1


def test_files_of_other_kinds_are_counted(tmp_path):
    for name in ("a.png", "b.docx"):
        (tmp_path / name).write_bytes(b"\x89")
    with pytest.raises(AutointerpError, match=r"holds no text \(2 files of other kinds\)"):
        read_corpus(tmp_path)


def test_reading_stops_after_so_many_documents(tmp_path):
    (tmp_path / "c.jsonl").write_bytes(lines(GOOD) + b"never read\n")
    corpus = read_corpus(tmp_path / "c.jsonl", max_documents=5)
    assert [d.text for d in corpus.documents] == GOOD[:5]


def test_a_name_that_is_no_text_does_not_stop_the_reading(tmp_path):
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.txt", os.O_CREAT | os.O_WRONLY))
    (tmp_path / os.fsdecode(b"\xff.txt")).write_text("named in bytes")
    assert read_corpus(tmp_path).documents[0].name == "?.txt"
