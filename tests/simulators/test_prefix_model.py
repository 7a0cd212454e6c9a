"""Rows that share their beginnings get what each would get from a prompt of its own."""

import logging
from dataclasses import replace

import pytest
import torch

from autointerp.records import AutointerpError
from autointerp.simulators import attention, linear
from autointerp.simulators.all_at_once import AllAtOnce
from autointerp.simulators.attention import NAME, UnsupportedAttention
from autointerp.simulators.prefix_model import (
    CopiedPrefixModel,
    Own,
    Row,
    SharedPrefixModel,
    check_has_cache,
    sharing_model,
)
from autointerp.subject import Subject
from tests.simulators.models import COPIED, REFUSED, SHARED, VOCABULARY, WINDOW, made

N_FEW_SHOT = 3 * WINDOW


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def tokens(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, VOCABULARY, (n,), generator=generator).tolist()


FEW_SHOT = tokens(N_FEW_SHOT, 0)
HEADS = [tokens(2, 1), tokens(WINDOW + 2, 2)]
FORK = Own(tokens(9, 3), [-1, 0, 1, 2, 3, 2, 5, 6, 1])
ROWS = [
    Row(1, Own(tokens(1, 4)), [0]),
    Row(0, Own(tokens(2 * WINDOW, 5)), [0, 6, 13]),
    Row(None, Own(tokens(5, 6)), [4]),
    Row(0, FORK, [4, 7, 8, 1]),
    Row(1, Own(tokens(WINDOW, 7)), [3, 3, 6]),
]


def plain_logits(model, rows):
    """One full prompt for every place that is read, by the model as it is."""
    logits = []
    for row in rows:
        before = FEW_SHOT + ([] if row.head is None else HEADS[row.head])
        for read in row.reads:
            ids = torch.tensor([[*before, *row.own.path(read)]])
            logits.append(model(input_ids=ids, use_cache=False).logits[0, -1])
    return torch.stack(logits)


def logits_of(model, hidden):
    logits = model.get_output_embeddings()(hidden)
    config = model.config.get_text_config()
    logits = logits * (getattr(config, "logit_scale", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return cap * torch.tanh(logits / cap) if cap else logits


def assert_equals_plain(model, way, few_shot):
    heads = way.heads(few_shot, HEADS)
    hidden = way.hidden(few_shot, heads, ROWS)
    torch.testing.assert_close(
        logits_of(model, hidden), plain_logits(model, ROWS), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("one_dnn", [True, False])
@pytest.mark.parametrize("kind", SHARED)
def test_attention_in_parts_equals_one_plain_prompt_a_row(kind, one_dnn, monkeypatch):
    monkeypatch.setattr(linear, "_measured", lambda: one_dnn)
    model = made(SHARED[kind]())
    way, few_shot, reason = sharing_model(model, FEW_SHOT)
    assert (way.way, reason) == ("shared", None)
    assert_equals_plain(model, way, few_shot)


@pytest.mark.parametrize("kind", [*SHARED, *COPIED])
def test_copies_equal_one_plain_prompt_a_row(kind):
    model = made((SHARED | COPIED)[kind]())
    way = CopiedPrefixModel(model)
    assert_equals_plain(model, way, way.prefix(FEW_SHOT))


@pytest.mark.parametrize("kind", COPIED)
def test_a_model_with_attention_of_its_own_falls_back_to_copies_and_says_so(
    kind, tokenizer, caplog
):
    config = COPIED[kind]()
    config.vocab_size = len(tokenizer)
    model = made(config)
    subject = Subject(kind, model, tokenizer, torch.device("cpu"), kind)
    simulator = AllAtOnce(subject, prompt="simulate_tab_unknown")
    assert sharing_model(model, FEW_SHOT)[0].way == "copied"
    with caplog.at_level(logging.WARNING):
        simulator.simulate("cats", [[" cat", " dog"]])
    assert "shared keys are copied for every row" in caplog.text


@pytest.mark.parametrize("kind", REFUSED)
def test_models_without_a_cache_are_refused_by_name(kind, tokenizer):
    model = made(REFUSED[kind]())
    with pytest.raises(AutointerpError, match="keeps no keys and values"):
        check_has_cache(model)
    subject = Subject(kind, model, tokenizer, torch.device("cpu"), kind)
    with pytest.raises(AutointerpError, match=type(model.base_model).__name__):
        AllAtOnce(subject)


def test_the_model_itself_is_left_as_it_was():
    model = made(SHARED["gemma2: windows and capped scores"]())
    before = model.config._attn_implementation
    plain = model(input_ids=torch.tensor([FEW_SHOT])).logits
    way = SharedPrefixModel(model)
    way.prefix(FEW_SHOT)
    assert model.config._attn_implementation == before != NAME
    torch.testing.assert_close(model(input_ids=torch.tensor([FEW_SHOT])).logits, plain)
    twins = dict(way._base.named_parameters())
    ours = dict(model.base_model.named_parameters())
    assert all(twins[name] is ours[name] for name in twins)


def test_what_is_wrong_about_a_models_attention_is_found_before_it_is_used(monkeypatch):
    """A window that the attention does not hear of: the few-shot itself gives it away."""
    model = made(SHARED["mistral: windows"]())
    real = attention._attention

    def deaf(*given, **named):
        return real(*given, **(named | {"sliding_window": None}))

    monkeypatch.setattr(attention, "_attention", deaf)
    way, few_shot, reason = sharing_model(model, FEW_SHOT)
    assert way.way == "copied"
    assert "would differ" in reason
    assert_equals_plain(model, way, few_shot)


@pytest.mark.parametrize(
    "given", [{"position_bias": torch.ones(1)}, {"attention_mask": torch.ones(1, 1, 1, 1)}]
)
def test_an_unknown_argument_of_the_attention_is_not_ignored(given):
    state = attention._Current()
    state.value = attention.Pass([], torch.zeros(1, 1, dtype=torch.long))
    module = torch.nn.Module()
    module.pass_under_way = state
    one = torch.ones(1, 1, 1, 8)
    with pytest.raises(UnsupportedAttention):
        attention._attention(module, one, one, one, **({"attention_mask": None} | given))


def test_layers_that_are_neither_full_nor_sliding_are_not_taken_for_either():
    model = made(SHARED["llama: grouped queries"]())
    model.config.layer_types = ["chunked_attention"] * 4
    with pytest.raises(UnsupportedAttention, match="chunked_attention"):
        SharedPrefixModel(model)


def test_half_precision_gives_nearly_the_same():
    model = made(SHARED["llama: grouped queries"]())
    exact = plain_logits(model, ROWS)
    model = model.to(torch.bfloat16)
    way, few_shot, reason = sharing_model(model, FEW_SHOT)
    assert (way.way, reason) == ("shared", None)
    hidden = way.hidden(few_shot, way.heads(few_shot, HEADS), ROWS)
    assert hidden.dtype == torch.bfloat16
    apart = (model.get_output_embeddings()(hidden).float() - exact).norm() / exact.norm()
    assert apart < 0.05


def test_rows_come_back_in_the_order_they_were_given():
    model = made(SHARED["llama: grouped queries"]())
    way, few_shot, _ = sharing_model(model, FEW_SHOT)
    heads = way.heads(few_shot, HEADS)
    together = way.hidden(few_shot, heads, ROWS)
    backwards = way.hidden(few_shot, heads, ROWS[::-1])
    sizes = [len(row.reads) for row in ROWS]
    for ours, theirs in zip(together.split(sizes), backwards.split(sizes[::-1])[::-1], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_no_copy_of_the_few_shot_is_made_for_a_row(monkeypatch):
    """The product with the few-shot has one key for all rows."""
    model = made(SHARED["llama: grouped queries"]())
    way, few_shot, _ = sharing_model(model, FEW_SHOT)
    seen = []
    real = attention.part

    def watched(query, key, *others, **named):
        seen.append((query.shape, key))
        return real(query, key, *others, **named)

    monkeypatch.setattr(attention, "part", watched)
    rows = [replace(row, head=None) for row in ROWS]
    way.hidden(few_shot, [], rows)
    shared = [(shape, key) for shape, key in seen if key.data_ptr() == few_shot[0][0].data_ptr()]
    ((shape, _),) = shared
    longest = max(len(row.own.ids) for row in rows)
    assert shape == (1, 2, len(rows) * 2 * longest, 8)


def test_linear_layers_share_their_weights_with_the_model(monkeypatch):
    monkeypatch.setattr(linear, "_measured", lambda: True)
    layer = torch.nn.Linear(5, 7)
    model = torch.nn.Sequential(layer)
    assert linear.use_fast_linears(model) == 1
    assert model[0].weight is layer.weight
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(model(x), layer(x))
    assert linear.use_fast_linears(torch.nn.Sequential(torch.nn.Linear(2, 2).bfloat16())) == 0
