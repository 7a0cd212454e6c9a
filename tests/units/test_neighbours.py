import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.units.neighbours import nearest_by_cosine


def random_directions(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def all_cosines(directions: torch.Tensor) -> torch.Tensor:
    """The whole matrix, from the formula and in float64."""
    wide = directions.double()
    norms = wide.norm(dim=1)
    cosines = (wide @ wide.T) / (norms[:, None] * norms[None, :])
    return cosines.nan_to_num(0.0).fill_diagonal_(-2.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 8), st.integers(1, 45), st.integers(1, 12))
def test_neighbours_are_those_of_the_whole_matrix(n, d, k, chunk):
    directions = random_directions(n, d)
    indices, cosines = nearest_by_cosine(directions, k, chunk)
    full = all_cosines(directions)
    expected = full.sort(dim=1, descending=True).values[:, : min(k, n - 1)]
    assert indices.dtype == torch.int64
    assert torch.allclose(cosines.double(), expected, atol=2e-6)
    assert torch.allclose(full.gather(1, indices), expected, atol=2e-6)


@given(st.integers(1, 50))
@settings(max_examples=15, deadline=None)
def test_chunks_change_nothing(chunk):
    directions = random_directions(37, 6)
    whole = nearest_by_cosine(directions, 5)
    chunked = nearest_by_cosine(directions, 5, chunk)
    assert torch.equal(whole[0], chunked[0])
    assert torch.allclose(whole[1], chunked[1], atol=2e-6)


def test_ties_go_to_the_lower_index():
    directions = random_directions(3, 4).repeat(7, 1) * torch.linspace(0.1, 30, 21)[:, None]
    for chunk in (2, 5, 1024):
        indices, cosines = nearest_by_cosine(directions, 6, chunk)
        for unit in range(21):
            copies = [other for other in range(unit % 3, 21, 3) if other != unit]
            assert indices[unit].tolist() == copies
        assert torch.equal(cosines, torch.ones(21, 6))


def test_a_unit_is_never_its_own_neighbour():
    indices, _ = nearest_by_cosine(random_directions(20, 3), 19, chunk=4)
    for unit, row in enumerate(indices.tolist()):
        assert sorted([unit, *row]) == list(range(20))


def test_zero_and_enormous_directions_have_cosines():
    directions = torch.tensor([[0.0, 0.0], [3e38, 0.0], [1e-40, 0.0], [-1.0, 0.0]])
    indices, cosines = nearest_by_cosine(directions, 3)
    assert indices.tolist() == [[1, 2, 3], [2, 0, 3], [1, 0, 3], [0, 1, 2]]
    assert cosines.tolist() == [[0, 0, 0], [1, 0, -1], [1, 0, -1], [0, -1, -1]]


def test_fewer_directions_than_neighbours_gives_those_there_are():
    assert nearest_by_cosine(torch.ones(1, 4), 5)[0].shape == (1, 0)
    assert nearest_by_cosine(torch.ones(0, 4), 5)[0].shape == (0, 0)
    assert nearest_by_cosine(torch.ones(3, 4), 5)[0].tolist() == [[1, 2], [0, 2], [0, 1]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_directions_that_are_not_finite_are_refused(bad):
    directions = random_directions(5, 3)
    directions[3, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        nearest_by_cosine(directions, 2)


def test_half_precision_directions_are_compared_in_single():
    directions = random_directions(30, 8).bfloat16()
    half = nearest_by_cosine(directions, 4)
    single = nearest_by_cosine(directions.float(), 4)
    assert torch.equal(half[0], single[0])


def test_rows_of_a_range_have_the_neighbours_they_have_among_all():
    directions = random_directions(41, 5)
    whole = nearest_by_cosine(directions, 6, 8)
    for first, last in ((0, 41), (3, 20), (40, 41), (7, 7)):
        part = nearest_by_cosine(directions, 6, 8, rows=slice(first, last))
        assert torch.equal(part[0], whole[0][first:last])
        assert torch.allclose(part[1], whole[1][first:last], atol=2e-6)


@pytest.mark.parametrize("chunk", [3, 1024])
def test_opposite_directions_are_near_where_the_sign_does_not_matter(chunk):
    directions = random_directions(30, 4)
    indices, cosines = nearest_by_cosine(directions, 7, chunk, either_sign=True)
    full = all_cosines(directions)
    sizes = full.abs().fill_diagonal_(-1)
    expected = sizes.sort(dim=1, descending=True)
    assert torch.allclose(cosines.abs().double(), expected.values[:, :7], atol=2e-6)
    assert torch.allclose(cosines.double(), full.gather(1, indices), atol=2e-6)
    assert bool((cosines < 0).any()) and bool((cosines > 0).any())
    both = torch.cat([directions, -directions])
    among_both, _ = nearest_by_cosine(both, 7, chunk)
    assert torch.equal(among_both[:30] % 30, indices)
