import json
import random
from collections import Counter

import numpy as np
import pytest

from autointerp.recording.corpus import (
    documents_per_split,
    read_corpus,
    sequences_of,
    sequences_of_corpus,
    split_of_cluster,
    vocabulary,
)
from autointerp.records import SPLIT_SHARES, AutointerpError, Split

WORDS = [f"w{i}" for i in range(400)]


def texts(n: int, n_words: int = 60, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=n_words)) for _ in range(n)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_repeated_text_is_dropped_and_counted(tmp_path):
    own = texts(3)
    rows = [{"text": t, "id": f"d{i}"} for i, t in enumerate([*own, own[0], own[2], "  "])]
    corpus = read_corpus(write(tmp_path / "c.jsonl", rows))
    assert [d.text for d in corpus.documents] == own
    assert [d.name for d in corpus.documents] == ["d0", "d1", "d2"]
    assert corpus.n_duplicates == 2


def test_near_duplicates_share_a_cluster_and_a_split(tmp_path):
    own = texts(20, n_words=200)
    copies = [t.rsplit(" ", 3)[0] + " changed at the end" for t in own]
    corpus = read_corpus(write(tmp_path / "c.jsonl", [{"text": t} for t in own + copies]))
    ids = [d.document_id for d in corpus.documents]
    for original, copy in zip(ids[:20], ids[20:], strict=True):
        assert corpus.clusters[original] == corpus.clusters[copy] == min(original, copy)
        assert corpus.split_of(original) == corpus.split_of(copy)
    assert len(set(corpus.clusters.values())) == 20


def test_splits_depend_on_the_texts_and_not_on_order_or_names(tmp_path):
    own = texts(40) + [t + " more" for t in texts(10)]
    forth = read_corpus(write(tmp_path / "a.jsonl", [{"text": t} for t in own]))
    back = read_corpus(
        write(tmp_path / "b.jsonl", [{"body": t, "id": t[:9]} for t in reversed(own)]),
        text_field="body",
    )
    assert forth.clusters == back.clusters
    assert forth.fingerprint() == back.fingerprint()
    assert all(forth.split_of(d) == back.split_of(d) for d in forth.clusters)
    fewer = read_corpus(write(tmp_path / "c.jsonl", [{"text": t} for t in own[:-1]]))
    assert fewer.fingerprint() != forth.fingerprint()


def test_splits_have_their_shares():
    found = Counter(split_of_cluster(f"{i:016x}") for i in range(20_000))
    for split, share in SPLIT_SHARES.items():
        assert found[split] / 20_000 == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', r"c\.jsonl, line 3: not JSON"),
        ('{"txt": "a"}', r"line 3: no text in field 'text'"),
        ('{"text": 5}', r"line 3: no text in field 'text'"),
        ("[1]", r"line 3: no text in field 'text'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "one"}\n\n' + line + '\n{"text": "two"}\n')
    with pytest.raises(AutointerpError, match=message):
        read_corpus(path)


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    for name in ("c.jsonl", "c.txt"):
        (tmp_path / name).write_bytes(b'{"text": "\xff\xfe"}\n')
        with pytest.raises(AutointerpError, match="not UTF-8"):
            read_corpus(tmp_path / name)


def test_a_corpus_without_text_is_refused(tmp_path):
    with pytest.raises(AutointerpError, match="does not exist"):
        read_corpus(tmp_path / "nothing")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "blank.txt").write_text(" \n")
    for place in (tmp_path / "empty.jsonl", tmp_path / "blank.txt", tmp_path):
        with pytest.raises(AutointerpError, match="holds no text"):
            read_corpus(place)


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.md").write_text("first")
    write(tmp_path / "sub" / "c.jsonl", [{"text": "third", "kind": "prose"}])
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    corpus = read_corpus(tmp_path)
    assert [(d.text, d.kind) for d in corpus.documents] == [
        ("first", "md"),
        ("second", "txt"),
        ("third", "prose"),
    ]


def sequences(tmp_path, tokenizer, own, **sizes):
    corpus = read_corpus(write(tmp_path / "c.jsonl", [{"text": t} for t in own]))
    sizes = {"length": 17, "n_masked_start": 1, "min_length": 4, "max_tokens": None} | sizes
    return corpus, sequences_of_corpus(corpus, tokenizer, **sizes)


def test_sequences_never_cross_documents_and_their_spans_rebuild_the_text(tmp_path, tokenizer):
    own = ["The naïve café — 北京 🙂 1984.\n\tdef f(x):\n  return x", *texts(5)]
    corpus, found = sequences(tmp_path, tokenizer, own, min_length=1)
    for document in corpus.documents:
        parts = [s for s in found if s.document_id == document.document_id]
        ids = np.concatenate([s.token_ids for s in parts]).tolist()
        assert ids == tokenizer(document.text, add_special_tokens=False)["input_ids"]
        assert {s.split for s in parts} == {corpus.split_of(document.document_id)}
        assert all(len(s.token_ids) == 17 for s in parts[:-1])
        # Tokens of one character share its span, so text is rebuilt from where spans advance.
        rebuilt, end = "", 0
        for s in parts:
            for a, b in zip(s.char_starts.tolist(), s.char_ends.tolist(), strict=True):
                rebuilt += document.text[max(a, end) : b]
                end = max(end, b)
        assert rebuilt == document.text
    assert len({s.sequence_id for s in found}) == len(found)


def test_the_start_of_every_sequence_is_masked(tmp_path, tokenizer):
    _, found = sequences(tmp_path, tokenizer, texts(3), n_masked_start=2)
    for sequence in found:
        assert sequence.masked.tolist() == [True] * 2 + [False] * (len(sequence.token_ids) - 2)


def test_special_tokens_that_the_text_spells_out_are_masked(tmp_path, tokenizer):
    own = "Once <|endoftext|> upon <|im_start|> a <|im_end|> time <repo_name> it <file_sep> was"
    _, (sequence,) = sequences(tmp_path, tokenizer, [own], length=64, n_masked_start=0)
    spelled = [own[a:b] for a, b in zip(sequence.char_starts, sequence.char_ends, strict=True)]
    masked = [text for text, m in zip(spelled, sequence.masked, strict=True) if m]
    assert masked == ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>"]


def test_half_a_surrogate_pair_is_read_as_a_question_mark(tmp_path, tokenizer):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "one \\ud800 two \\ud83d\\ude42"}\n')
    corpus = read_corpus(path)
    assert corpus.documents[0].text == "one ? two 🙂"
    sequences_of(corpus.documents[0], Split.TEST, tokenizer, length=9, min_length=1)


def test_a_limit_keeps_whole_documents_whatever_the_order_of_the_file(tmp_path, tokenizer):
    own = texts(8)
    _, everything = sequences(tmp_path, tokenizer, own)
    sizes = Counter()
    for sequence in everything:
        sizes[sequence.document_id] += len(sequence.token_ids)
    kept = list(sizes)[:3]
    assert list(sizes) == sorted(sizes)
    for order in (own, own[::-1]):
        limit = sum(sizes[name] for name in kept) + 1
        _, found = sequences(tmp_path, tokenizer, order, max_tokens=limit)
        assert list(dict.fromkeys(s.document_id for s in found)) == kept
        assert found[0].token_ids.tolist() == everything[0].token_ids.tolist()
    assert sum(documents_per_split(found).values()) == 3


def test_a_document_is_read_no_further_than_its_limit(tmp_path, tokenizer):
    _, found = sequences(tmp_path, tokenizer, texts(2), max_tokens_per_document=20, min_length=1)
    sizes = Counter()
    for sequence in found:
        sizes[sequence.document_id] += len(sequence.token_ids)
    assert list(sizes.values()) == [20, 20]


def test_a_short_remainder_is_left_out(tmp_path, tokenizer):
    _, found = sequences(tmp_path, tokenizer, ["one two three four five six"], length=5)
    assert [len(s.token_ids) for s in found] == [5]


def test_the_vocabulary_spells_every_id(tokenizer):
    spelled = vocabulary(tokenizer)
    assert len(spelled) == 49152
    ids = tokenizer("Hello world, 42!", add_special_tokens=False)["input_ids"]
    assert "".join(spelled[i] for i in ids) == "Hello world, 42!"
