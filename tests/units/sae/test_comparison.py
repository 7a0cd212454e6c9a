"""Latents beside those of another dictionary: closed forms, and numpy on small data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autointerp.units.sae.comparison import (
    best_correlations,
    feature_splitting,
    largest_in_groups,
    nearest_in,
    neighbourhood,
    neighbourhood_in,
    rotated,
    shared_spans,
    sparse_rows,
)


def activations(n_tokens: int = 300, n: int = 7, seed: int = 0, share: float = 0.3) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    values = torch.rand(n_tokens, n, generator=g) + 0.1
    return values * (torch.rand(n_tokens, n, generator=g) < share)


@pytest.mark.parametrize("block_values", [1, 12, 1 << 24])
def test_best_correlations_are_those_of_numpy_whatever_the_block(monkeypatch, block_values):
    monkeypatch.setattr("autointerp.units.sae.comparison._BLOCK_VALUES", block_values)
    a, b = activations(seed=0), activations(n=5, seed=1)
    b[:, 2] += 0.7 * a[:, 3]
    of_a, of_b = best_correlations(sparse_rows(a), sparse_rows(b))
    r = np.corrcoef(a.double().numpy().T, b.double().numpy().T)[:7, 7:]
    assert of_a.latent.tolist() == r.argmax(1).tolist()
    assert of_b.latent.tolist() == r.argmax(0).tolist()
    np.testing.assert_allclose(of_a.correlation, r.max(1), atol=1e-12)
    np.testing.assert_allclose(of_b.correlation, r.max(0), atol=1e-12)
    assert of_a.n_active.tolist() == (a > 0).sum(0).tolist() and of_a.known.all()


def test_a_permuted_copy_is_found_latent_by_latent_with_correlation_one():
    a = activations(n=40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    of_a, of_b = best_correlations(sparse_rows(a), sparse_rows(3.0 * a[:, order]))
    assert of_b.latent.tolist() == order.tolist()
    assert order[torch.from_numpy(of_a.latent)].tolist() == list(range(40))
    np.testing.assert_allclose(of_a.correlation, 1.0)
    np.testing.assert_allclose(of_b.correlation, 1.0)


def test_latents_that_fire_seldom_or_always_alike_are_not_compared():
    a = activations(n=5)
    a[:, 1] = 0.0
    a[:, 2] = 0.0
    a[:9, 2] = 1.0
    a[:, 3] = 4.25
    of_a, _ = best_correlations(sparse_rows(a), sparse_rows(activations(n=5)), min_active=10)
    assert of_a.known.tolist() == [True, False, False, False, True]
    assert of_a.n_active.tolist()[1:4] == [0, 9, 300] and of_a.n_dead == 1
    assert of_a.latent[1] == -1
    # Nor are they found as another's match.
    _, of_b = best_correlations(sparse_rows(a), sparse_rows(a), min_active=10)
    assert set(of_b.latent.tolist()) == {0, -1, 4}


def test_rotated_text_keeps_each_latents_own_sums_but_not_who_fires_with_whom():
    a = activations(n=30, share=0.1)
    turned = rotated(sparse_rows(a), 120)
    np.testing.assert_array_equal(turned.toarray(), np.roll(a.numpy(), -120, axis=0))
    control, _ = best_correlations(sparse_rows(a), turned)
    assert control.known.all() and control.correlation.max() < 0.4


def test_a_dictionary_made_by_splitting_known_latents_gives_the_families_back():
    """Latent 0 is kept, 1 is split in two by a coin, 2 is gone, and one wide latent is new."""
    directions = torch.eye(6)
    narrow = activations(n=3, n_tokens=400)
    coin = torch.rand(400, generator=torch.Generator().manual_seed(9)) < 0.25
    new = activations(n=1, n_tokens=400, seed=3)[:, 0]
    wide = torch.stack([narrow[:, 1] * coin, narrow[:, 0], narrow[:, 1] * ~coin, new], dim=1)
    lean = 0.3
    wide_rows = torch.stack(
        [
            directions[1] + lean * directions[3],
            2 * directions[0],
            directions[1] - lean * directions[3],
            directions[4],
        ]
    )
    found = feature_splitting(directions[:3], wide_rows, sparse_rows(narrow), sparse_rows(wide))
    assert found.parent.tolist() == [1, 0, 1, -1]
    assert found.n_children.tolist() == [1, 2, 0]
    expected = 1 / np.sqrt(1 + lean**2)
    np.testing.assert_allclose(found.cosine, [expected, 1.0, expected, 0.0], atol=1e-6)
    fires = narrow > 0
    assert found.n_both.tolist() == [
        int((fires[:, 1] & coin).sum()), int(fires[:, 0].sum()), int((fires[:, 1] & ~coin).sum()), 0
    ]  # fmt: skip
    # P(parent | child) is 1, and together the children cover their parent.
    assert (found.n_both == found.n_wide)[:3].all()
    assert found.n_covered.tolist() == [int(fires[:, 0].sum()), int(fires[:, 1].sum()), 0]
    r = np.corrcoef(narrow[:, 1].numpy(), wide[:, 0].numpy())[0, 1]
    np.testing.assert_allclose(found.correlation, [r, 1.0, found.correlation[2], 0.0], atol=1e-6)


def test_without_any_activation_families_come_of_the_decoders_alone():
    nothing = sparse_rows(torch.zeros(5, 2))
    found = feature_splitting(torch.eye(2), torch.eye(2), nothing, nothing)
    assert found.parent.tolist() == [0, 1] and not found.n_both.any()
    assert not found.correlation.any()


def test_neighbours_are_the_nearest_by_cosine_in_either_dictionary():
    rows = torch.tensor([[1.0, 0.0], [10.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    own = neighbourhood(rows, 0, k=2)
    assert own.latents == [1, 2]
    assert own.cosines == pytest.approx([10 / 101**0.5, 0.0], abs=1e-6)
    other = neighbourhood_in(torch.tensor([0.0, 3.0]), rows, k=2)
    assert other.latents[0] == 2 and other.cosines[0] == pytest.approx(1.0)
    indices, cosines = nearest_in(rows, -rows)
    assert indices.tolist()[0] == 3 and cosines[0] == pytest.approx(1.0)


def test_texts_cut_in_two_ways_are_aligned_where_both_cut():
    a = np.array([[0, 0], [0, 3], [3, 7], [7, 8], [8, 8], [8, 12]])
    b = np.array([[0, 3], [3, 5], [5, 8], [9, 10], [10, 11]])
    of_a, of_b = shared_spans(a, b)
    assert of_a.tolist() == [-1, 0, 1, 1, -1, 2]
    assert of_b.tolist() == [0, 1, 1, 2, 2]


def test_characters_that_only_one_way_covers_are_in_no_span():
    of_a, of_b = shared_spans(np.array([[0, 2], [2, 4]]), np.array([[2, 3], [3, 4], [4, 9]]))
    assert of_a.tolist() == [-1, 0] and of_b.tolist() == [0, 0, -1]
    nothing = np.zeros((0, 2), np.int64)
    assert [part.tolist() for part in shared_spans(nothing, np.array([[0, 1]]))] == [[], [-1]]


@given(st.lists(st.integers(1, 5), max_size=12), st.lists(st.integers(1, 5), max_size=12))
def test_shared_spans_are_the_pieces_between_cuts_that_both_make(lengths_a, lengths_b):
    ends_a, ends_b = np.cumsum([0, *lengths_a]), np.cumsum([0, *lengths_b])
    a, b = (np.stack([ends[:-1], ends[1:]], 1) for ends in (ends_a, ends_b))
    of_a, of_b = shared_spans(a, b)
    both = sorted(set(ends_a.tolist()) & set(ends_b.tolist()))
    for spans, found in ((a, of_a), (b, of_b)):
        for (start, end), number in zip(spans.tolist(), found.tolist(), strict=True):
            if end <= both[-1]:
                assert both[number] <= start and end <= both[number + 1]


def test_the_largest_of_a_group_stands_for_it():
    values = torch.tensor([[1.0, 0.0], [3.0, 2.0], [9.0, 9.0], [0.0, 5.0]])
    found = largest_in_groups(sparse_rows(values), np.array([0, 0, -1, 2]), 3)
    assert found.toarray().tolist() == [[3.0, 2.0], [0.0, 0.0], [0.0, 5.0]]
