"""Attention in parts is attention."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autointerp.simulators import attention, linear
from autointerp.simulators.attention import Scores, by_heads, in_chunks, merge, part


def tensors(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("one_dnn", [True, False])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    n_queries=st.integers(1, 9),
    n_keys=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    scale=st.floats(0.05, 30),
)
def test_parts_joined_are_the_whole(monkeypatch, one_dnn, n_queries, n_keys, scale):
    monkeypatch.setattr(linear, "_measured", lambda: one_dnn)
    query, key, value = tensors(
        (2, 3, n_queries, 8), (2, 3, sum(n_keys), 8), (2, 3, sum(n_keys), 8)
    )
    out, total = part(query, key[:, :, : n_keys[0]], value[:, :, : n_keys[0]], Scores(scale))
    first = n_keys[0]
    for n in n_keys[1:]:
        piece = slice(first, first + n)
        merge(out, total, *part(query, key[:, :, piece], value[:, :, piece], Scores(scale)))
        first += n
    raw = query.double() @ key.double().transpose(-1, -2) * scale
    torch.testing.assert_close(
        out, (raw.softmax(-1) @ value.double()).float(), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(total, raw.logsumexp(-1).float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("at_once", [1, 50, 2**20])
@pytest.mark.parametrize("way", [in_chunks, by_heads])
def test_chunks_of_any_size_give_the_same(monkeypatch, way, softcap, at_once):
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", at_once)
    query, key, value = tensors((1, 2, 6, 8), (1, 2, 6, 8), (1, 2, 6, 4))
    out, total = way(query, key, value, Scores(0.4, softcap), causal=True)
    raw = query @ key.transpose(-1, -2) * 0.4
    if softcap:
        raw = softcap * torch.tanh(raw / softcap)
    raw = raw.masked_fill(~torch.ones(6, 6, dtype=torch.bool).tril(), -torch.inf)
    torch.testing.assert_close(out, raw.softmax(-1) @ value)
    torch.testing.assert_close(total, raw.logsumexp(-1))


def test_a_query_that_sees_no_key_of_a_part_gains_nothing_from_it():
    query, key, value = tensors((1, 1, 2, 8), (1, 1, 3, 8), (1, 1, 3, 8))
    bias = torch.zeros(1, 1, 2, 3)
    bias[:, :, 0] = -torch.inf
    blind, blind_total = in_chunks(query, key, value, Scores(1.0), bias=bias)
    assert (blind[0, 0, 0] == 0).all()
    assert blind_total[0, 0, 0] == -torch.inf
    out, total = part(query, key, value, Scores(1.0))
    before, before_total = out.clone(), total.clone()
    merge(out, total, blind, blind_total)
    torch.testing.assert_close(out[0, 0, 0], before[0, 0, 0])
    torch.testing.assert_close(total[0, 0, 0], before_total[0, 0, 0])
    assert torch.isfinite(out).all()
