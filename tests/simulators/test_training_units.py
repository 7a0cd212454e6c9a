"""Rows of recorded units: what tells of a unit is never what it is shown on."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from autointerp import resources
from autointerp.units import Neurons

WORDS = [" copper", " tin", " lead", " zinc", " silver", " WALK", " walk", " Walk", " =", " market"]
WORDS += [f" w{chr(97 + i)}x" for i in range(20)]
PIECE = len(WORDS)
WORDS += ["\ufffd"]
N_TOKENS, N_WINDOWS = 32, 8
SEQUENCES = 100


@pytest.fixture(scope="module")
def builder() -> Iterator[SimpleNamespace]:
    """The modules of datasets/simulator, which is no package."""
    folder = str(resources.path("datasets/simulator"))
    sys.path.insert(0, folder)
    try:
        import activations
        import concepts
        import known
        import phrasing
        import recorded

        yield SimpleNamespace(**{m.__name__: m for m in
              (activations, concepts, known, phrasing, recorded)})  # fmt: skip
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def known(builder):
    return builder.known.KnownConcepts()


class Sample:
    """Random texts over `WORDS`, every second document in the half that tells."""

    def __init__(self, builder, *fire) -> None:
        """Each of `fire` gives a unit's activations from ids [n_positions] and the half's mask."""
        rng = np.random.default_rng(0)
        n_windows = SEQUENCES * builder.activations.N_JOINED
        self.ids = rng.integers(PIECE, size=n_windows * N_TOKENS)
        # Every fifth window is half of another script.
        self.ids.reshape(n_windows, N_TOKENS)[::5, ::2] = PIECE
        tells = np.arange(len(self.ids)) // (N_TOKENS * builder.activations.N_JOINED) % 2 == 1
        known = np.arange(len(self.ids)) % (N_TOKENS * builder.activations.N_JOINED) > 0
        values = np.stack([unit(self.ids, tells) for unit in fire], 1).astype(np.float32)
        self.values = values.reshape(n_windows, N_TOKENS, -1)
        self.recorded = builder.activations.Recorded(
            np.arange(n_windows), self.ids, tells, known, sparse.csc_array(values)
        )
        self.windows = [self._window(builder, row) for row in self.ids.reshape(n_windows, -1)]
        self.tells = tells.reshape(n_windows, -1)[:, 0]

    def _window(self, builder, ids: np.ndarray):
        ends = np.cumsum([len(WORDS[i]) for i in ids])
        return builder.concepts.Window(
            "".join(WORDS[i] for i in ids), np.r_[0, ends[:-1]], ends, ""
        )

    def rows(self, builder, known, *, masked=frozenset(), forbidden=frozenset(), concepts=()):
        rng = np.random.default_rng(1)
        tokenizer = SimpleNamespace(decode=lambda ids: WORDS[ids[0]])
        r = builder.recorded
        tokens = r.Tokens(self.recorded, tokenizer, forbidden)
        hidden = r.masked_positions(self.windows, masked)
        made = r.Concepts(self.recorded, concepts, self.windows) if concepts else None
        units = r.Units(rng, self.recorded, tokens, hidden, made)
        return list(r.rows(rng, units, "latent", known, 12, N_WINDOWS))


def on(*words: str, level: float = 2.0, noise: float = 0.0):
    """Fires on some tokens."""

    def unit(ids: np.ndarray, _: np.ndarray) -> np.ndarray:
        hit = np.isin(ids, [WORDS.index(w) for w in words])
        return hit * level * (1 + noise * np.random.default_rng(3).random(len(ids)))

    return unit


def test_rows_show_the_half_that_did_not_tell(builder, known) -> None:
    sample = Sample(builder, on(" copper", " tin"))
    rows = sample.rows(builder, known)
    assert rows
    for row in rows:
        assert len(row.numbers) == N_WINDOWS
        assert not sample.tells[row.numbers].any()


def test_windows_of_pieces_of_characters_are_not_shown(builder, known) -> None:
    for row in Sample(builder, on(" copper", " tin")).rows(builder, known):
        assert not any(number % 5 == 0 for number in row.numbers)


def test_what_holds_on_one_half_alone_is_not_said(builder, known) -> None:
    def changing(ids: np.ndarray, tells: np.ndarray) -> np.ndarray:
        return np.where(tells, ids == 0, ids == 1) * 2.0

    assert Sample(builder, changing).rows(builder, known) == []


def test_levels_are_true_activations_in_ninths_of_the_top(builder, known) -> None:
    sample = Sample(builder, on(" copper", noise=0.5))
    values = sample.values[sample.tells].ravel()
    top = np.quantile(values[values > 0], builder.recorded.TOP_QUANTILE)
    for row in sample.rows(builder, known):
        for number, levels in zip(row.numbers, row.levels, strict=True):
            seen = ~np.isnan(levels)
            expected = np.rint(np.minimum(9 * sample.values[number, :, 0] / top, 9))
            assert np.array_equal(levels[seen], expected[seen])


@pytest.mark.parametrize("active", [(" copper", " tin", " lead"), (" copper", " lead")])
def test_starts_of_sequences_and_masked_words_are_not_trained_on(builder, known, active) -> None:
    sample = Sample(builder, on(*active))
    rows = sample.rows(builder, known, masked=frozenset(["tin"]), forbidden=frozenset(["tin"]))
    assert rows
    for row in rows:
        assert "tin" not in row.description
        for number, levels in zip(row.numbers, row.levels, strict=True):
            hidden = sample.ids.reshape(-1, N_TOKENS)[number] == WORDS.index(" tin")
            hidden[0] |= number % builder.activations.N_JOINED == 0
            assert np.array_equal(np.isnan(levels), hidden)


def test_a_unit_that_is_a_known_answer_gives_no_row(builder, known) -> None:
    sample = Sample(builder, on(" ="))
    assert sample.rows(builder, known, forbidden=frozenset(["="])) == []
    equals = builder.concepts.Concept("x", builder.concepts.matches("="), ("equality",))
    assert sample.rows(builder, known, forbidden=frozenset(["="]), concepts=(equals,)) == []


def test_what_follows_and_what_stands_after_a_word_are_said_so(builder, known) -> None:
    def after(ids: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.r_[0.0, 2.0 * (ids[:-1] == 0)]

    def pair(ids: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.r_[0.0, 2.0 * ((ids[:-1] % 5 == 0) & (ids[1:] == 1))]

    assert {r.family for r in Sample(builder, after).rows(builder, known)} == {"latent_followed"}
    rows = Sample(builder, pair).rows(builder, known)
    assert "latent_pairs" in {r.family for r in rows}
    for row in rows:
        if row.family == "latent_pairs":
            assert "copper" in row.description and "tin" in row.description


def test_a_unit_like_a_concept_is_described_by_it(builder, known) -> None:
    c = builder.concepts
    forms = frozenset(["copper", "tin", "lead", "zinc", "silver"])
    metals = c.Concept("category", c.from_forms(forms, frozenset()), ("metals",), forms=forms)
    towns = c.Concept("towns", c.matches(r"\bw\wx\b"), ("towns",))
    sample = Sample(builder, on(" copper", " tin", " lead", " zinc"))
    rows = sample.rows(builder, known, concepts=(metals, towns))
    said = [r.description for r in rows if r.family == "latent_concept"]
    assert said
    assert all(text.startswith("metals") for text in said)


def test_variants_of_a_token_are_named_once(builder, known) -> None:
    rows = Sample(builder, on(" WALK", " walk", " Walk")).rows(builder, known)
    assert rows
    for row in rows:
        assert row.description.lower().count("walk") == 1


def test_weak_tokens_are_told_from_strong_ones(builder) -> None:
    p = builder.phrasing
    names = [p.Name(" copper", 1.0), p.Name(" tin", 0.9), p.Name(" lead", 0.3)]
    said = {p.of_tokens(np.random.default_rng(i), names) for i in range(60)}
    assert 'strongly on "copper" and "tin", weakly on "lead"' in said
    assert p.Name(' a"\n', 1.0, bare=False).quoted == r'" a\"\n"'


def test_sequences_lie_in_one_document(builder) -> None:
    documents = np.repeat([0, 1, 2, 3], [3, 9, 4, 10])
    pool = np.flatnonzero(documents != 2)
    chosen = builder.activations.sequences(np.random.default_rng(0), documents, pool, 100)
    assert [own.tolist() for own in documents[chosen]] == [[1] * 4] * 2 + [[3] * 4] * 2
    assert np.array_equal(np.diff(chosen, axis=1), np.ones((4, 3)))


def test_recorded_neurons_are_the_strongest_of_the_model(
    builder, tiny_subject, monkeypatch
) -> None:
    monkeypatch.setattr(builder.activations, "L0", 5)
    subject = tiny_subject("llama")
    neurons = Neurons.of("neuron", "subject", subject, "blocks.1.mlp.hook_post")
    ids = list(np.random.default_rng(0).integers(64, size=(16, 6)).astype(np.uint16))
    chosen = np.arange(16).reshape(4, 4)
    documents = np.arange(16) // 4
    (found,) = builder.activations.record(subject, [neurons], ids, chosen, documents)
    assert found.ids.tolist() == np.concatenate(ids).tolist()
    assert np.flatnonzero(~found.known).tolist() == [0, 24, 48, 72]
    assert found.tells.reshape(4, 24).all(1).tolist() == [False, True, False, True]
    own = torch.from_numpy(np.concatenate(ids).astype(np.int64).reshape(4, 24))
    hidden = subject.run(own, [neurons.read_at])[neurons.read_at].flatten(0, 1).float().numpy()
    least = -np.sort(-np.abs(hidden), 1)[:, 4:5]
    kept = np.where(np.abs(hidden) >= least, hidden, 0)
    expected = np.concatenate([np.maximum(kept, 0), np.maximum(-kept, 0)], 1)
    assert np.allclose(found.values.toarray(), expected, atol=1e-6)
