"""Which units serve as controls."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.records import Explanation, Status, UnitId
from autointerp.selection import Donors


def explanation(index: int, source: str = "a", status: Status = Status.OK) -> Explanation:
    return Explanation(UnitId(source, index), "words", "text", status, f"{source} {index}")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.5]), min_size=1, max_size=30),
       st.integers(0, 6), st.randoms(use_true_random=False))  # fmt: skip
def test_donors_are_the_nearest_in_firing_rate(rates: list[float], n: int, random: object) -> None:
    """Against sorting all of them for every unit."""
    units = [explanation(i) for i in range(len(rates))]
    densities = {one.unit: rate for one, rate in zip(units, rates, strict=True)}
    donors = Donors(units, densities, {})
    for own in units:
        logs = {u: np.log(rate + 1e-9) for u, rate in densities.items()}
        others = [one for one in units if one.unit != own.unit]
        wanted = sorted(others, key=lambda o: (abs(logs[o.unit] - logs[own.unit]), o.unit))[:n]
        found = donors.of(own, n)
        assert len(found) == len(wanted)
        near = [round(abs(logs[o.unit] - logs[own.unit]), 9) for o in found]
        assert near == [round(abs(logs[o.unit] - logs[own.unit]), 9) for o in wanted]
        assert own not in found


def test_failed_ones_other_sources_and_near_copies_are_no_donors() -> None:
    candidates = [
        explanation(1), explanation(2, status=Status.FAILED), explanation(3, "b"), explanation(4),
        explanation(5),
    ]  # fmt: skip
    own = explanation(0)
    densities = {one.unit: 0.1 for one in (*candidates, own)}
    directions = {
        own.unit: np.array([1.0, 0.0]),
        UnitId("a", 4): np.array([0.9, 0.1]),
        UnitId("a", 5): np.array([0.0, 1.0]),
    }
    found = Donors(candidates, densities, directions).of(own, 9)
    assert [one.unit.index for one in found] == [1, 5]


def test_the_other_side_of_a_neuron_is_no_donor() -> None:
    own = explanation(0)
    other_side = Explanation(UnitId("a", 0, -1), "words", "text", Status.OK, "k")
    densities = {own.unit: 0.1, other_side.unit: 0.1}
    assert Donors([own, other_side], densities, {}).of(own, 3) == ()
