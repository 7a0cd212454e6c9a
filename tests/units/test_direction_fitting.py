import numpy as np
import pytest
import torch

from autointerp.records import AutointerpError, Sequence, Split
from autointerp.units.direction_fitting import fit_moments, hidden_rows, sequences_to_fit


def sequence(name: str, split: Split, tokens: list[int], n_masked: int = 1) -> Sequence:
    ids = np.asarray(tokens, np.int32)
    masked = np.arange(len(ids)) < n_masked
    return Sequence(name, f"d{name}", split, ids, masked, np.zeros_like(ids), np.ones_like(ids))


def many(n: int = 24) -> list[Sequence]:
    generator = np.random.default_rng(0)
    splits = list(Split)
    return [
        sequence(
            f"{(i * 7919) % 1000:03d}",
            splits[i % 4],
            generator.integers(0, 60, generator.integers(4, 12)).tolist(),
        )
        for i in range(n)
    ]


def test_only_explain_documents_are_fitted_to():
    chosen = sequences_to_fit(many(), 64, None)
    assert len(chosen) == 6 and {s.split for s in chosen} == {Split.EXPLAIN}


def test_tokens_are_drawn_by_hash_and_not_by_place_in_the_corpus():
    sequences = many()
    chosen = sequences_to_fit(sequences, 64, 20)
    assert [s.sequence_id for s in chosen] == sorted(s.sequence_id for s in chosen)
    assert sum(int((~s.masked).sum()) for s in chosen) <= 20
    assert [s.sequence_id for s in sequences_to_fit(sequences[::-1], 64, 20)] == [
        s.sequence_id for s in chosen
    ]
    assert len(sequences_to_fit(sequences, 64, 1)) == 1


def test_sequences_of_another_vocabulary_are_left_out():
    own, other = sequence("a", Split.EXPLAIN, [1, 2]), sequence("b", Split.EXPLAIN, [1, 99])
    assert sequences_to_fit([own, other], 64, None) == [own]


@pytest.mark.parametrize("batch_tokens", [8, 30, 1000])
def test_rows_are_those_of_every_sequence_alone(batch_tokens, tiny_subject):
    subject, point = tiny_subject("gpt2"), "blocks.1.hook_resid_post"
    sequences = [s for s in many() if s.split == Split.EXPLAIN]
    batches = list(hidden_rows(subject, sequences, point, batch_tokens))
    alone = [
        subject.run(torch.from_numpy(s.token_ids)[None], [point])[point][
            0, ~torch.from_numpy(s.masked)
        ]
        for s in sorted(sequences, key=lambda s: (len(s.token_ids), s.sequence_id))
    ]
    torch.testing.assert_close(torch.cat(batches), torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_too_few_tokens_are_refused_with_both_numbers():
    with pytest.raises(AutointerpError, match=r"source 'p': 3 tokens .* at least 5 are needed"):
        fit_moments([torch.ones(3, 2)], 2, covariance=True, needed=5, place="source 'p'")


def test_a_subject_that_gives_infinity_is_refused():
    rows = torch.tensor([[1.0, float("inf")], [0.0, 1.0]])
    with pytest.raises(AutointerpError, match="gives NaN or infinity"):
        fit_moments([rows], 2, covariance=False, needed=2, place="source 'p'")
