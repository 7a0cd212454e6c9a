"""The nearest units of a source: one search serves recording and the output side."""

from pathlib import Path
from typing import Any

import pytest
import torch

from autointerp.recording.hardness import MIN_COSINE, Neighbours
from autointerp.records import AutointerpError
from autointerp.runner import run
from autointerp.store import RunStore
from autointerp.units import Directions, nearest
from autointerp.units.directions import DirectionSet
from autointerp.units.nearest import NearestUnits
from tests.run_helpers import small_config


def source_of(rows: torch.Tensor) -> Directions:
    n, width = rows.shape
    made = DirectionSet(rows, None, None)
    place = "blocks.0.hook_resid_post"
    return Directions("d", "subject", place, n, width, lambda: made, rows.device)


def test_the_nearest_of_every_side_are_those_of_all_sides_compared() -> None:
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    source = source_of(rows)
    assert source.polarities == (1, -1)
    sides = torch.cat([rows, -rows]).double()
    unit = sides / sides.norm(dim=1, keepdim=True)
    cosines = (unit @ unit.T).fill_diagonal_(-2)
    expected, index = cosines.max(1)
    found = Neighbours.of(source)
    assert found.cosine == pytest.approx(expected.numpy(), abs=2e-6)
    near = expected.numpy() >= MIN_COSINE
    assert near.all() and (found.nearest == index.numpy()).all()


def test_a_direction_like_no_other_has_no_neighbour() -> None:
    found = Neighbours.of(source_of(torch.eye(5)))
    assert (found.nearest == -1).all() and (found.cosine == 0).all()


def test_directions_that_are_not_finite_are_refused_by_name() -> None:
    rows = torch.ones(3, 2)
    source = source_of(rows)
    rows[1, 0] = torch.nan
    with pytest.raises(AutointerpError, match=r"'d'.*not finite"):
        NearestUnits(1).of(source)


def test_one_search_serves_records_and_output_side(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[int] = []
    search = nearest.nearest_by_cosine

    def counted(directions: torch.Tensor, k: int, **more: Any) -> Any:
        searches.append(k)
        return search(directions, k, **more)

    monkeypatch.setattr(nearest, "nearest_by_cosine", counted)
    config = small_config(tmp_path, tiny_folder)
    run(config, until="record")
    assert searches == [5] * len(config.sources)
    store = RunStore(config.output)
    (name, *_) = config.sources
    units = list(store.read_units([unit.unit for unit in store.units(name)]))
    agreeing = 0
    for unit in units:
        assert unit.neighbours is not None
        if unit.neighbour is not None:
            first = unit.neighbours[0]
            assert unit.neighbour == first.unit
            assert unit.neighbour_cosine == pytest.approx(first.cosine, abs=1e-7)
            agreeing += 1
        else:
            assert not unit.neighbours or unit.neighbours[0].cosine < MIN_COSINE
    assert agreeing
