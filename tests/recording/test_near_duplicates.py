"""Near-duplicates never cross splits."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.recording.corpus import near_duplicate_clusters
from autointerp.recording.corpus.documents import document_id
from autointerp.recording.corpus.near_duplicates import _shingles, minhash
from autointerp.records import Document

WORDS = [f"w{i}" for i in range(2000)]


def documents(texts):
    return [Document(document_id(text), text, "") for text in dict.fromkeys(texts)]


def made(generator, n_words):
    return [generator.choice(WORDS) for _ in range(n_words)]


def jaccard(a, b):
    a, b = _shingles(a), _shingles(b)
    return len(a & b) / len(a | b)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(60, 400), st.integers(0, 3), st.integers(0, 6))
def test_edited_copies_share_a_cluster_and_strangers_do_not(seed, n_words, n_edits, n_ends):
    generator = random.Random(seed)
    originals = [made(generator, n_words) for _ in range(12)]
    pairs = []
    for words in originals:
        copy = words[n_ends:] + made(generator, n_ends)
        for _ in range(n_edits):
            copy[generator.randrange(len(copy))] = "edited"
        pairs.append((" ".join(words), " ".join(copy)))
    everything = documents([text for pair in pairs for text in pair])
    clusters = near_duplicate_clusters(everything)
    for original, copy in pairs:
        if jaccard(original, copy) >= 0.85:
            assert clusters[document_id(original)] == clusters[document_id(copy)]
    heads = {clusters[document_id(original)] for original, _ in pairs}
    assert len(heads) == len(pairs)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_clusters_do_not_depend_on_the_order(seed):
    generator = random.Random(seed)
    texts = []
    for _ in range(15):
        words = made(generator, 120)
        texts += [" ".join(words[i:]) for i in range(0, 40, 10)]
    found = documents(texts)
    clusters = near_duplicate_clusters(found)
    generator.shuffle(found)
    assert near_duplicate_clusters(found) == clusters
    for name, head in clusters.items():
        assert head <= name and clusters[head] == head


def test_unlike_texts_that_share_boilerplate_stay_apart():
    generator = random.Random(0)
    boilerplate = " ".join(made(generator, 30))
    texts = [boilerplate + " " + " ".join(made(generator, 200)) for _ in range(300)]
    clusters = near_duplicate_clusters(documents(texts))
    assert len(set(clusters.values())) == 300


def test_thousands_of_nearly_equal_texts_are_one_cluster():
    generator = random.Random(0)
    words = made(generator, 150)
    texts = [" ".join([*words, str(i)]) for i in range(3000)]
    assert len(set(near_duplicate_clusters(documents(texts)).values())) == 1


def test_scripts_without_spaces_are_compared_by_character():
    generator = random.Random(0)
    characters = [chr(0x4E00 + i) for i in range(3000)]
    text = "".join(generator.choices(characters, k=400))
    copy, other = text[:200] + "新" + text[200:], "".join(generator.choices(characters, k=400))
    clusters = near_duplicate_clusters(documents([text, copy, other]))
    assert clusters[document_id(text)] == clusters[document_id(copy)]
    assert clusters[document_id(text)] != clusters[document_id(other)]


def test_the_share_of_equal_hashes_estimates_the_jaccard_similarity():
    generator = random.Random(1)
    errors = []
    for _ in range(40):
        words = made(generator, 300)
        copy = words[: generator.randrange(50, 300)] + made(generator, 40)
        a, b = " ".join(words), " ".join(copy)
        errors.append((minhash(a) == minhash(b)).mean() - jaccard(a, b))
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 0.06


def test_a_text_of_few_words_or_none_is_a_document_too():
    clusters = near_duplicate_clusters(documents(["one", "two", "!", "one two three"]))
    assert len(set(clusters.values())) == 4
    assert near_duplicate_clusters([]) == {}
