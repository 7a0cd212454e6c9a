"""Interventions: what is written at a place, where, and that nothing of it stays."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.subject import AddVector, SetTo
from autointerp.subject.hooks import NORMALIZED, hook_names
from tests.conftest import FAMILIES

TEXTS = [[5, 9, 2, 33, 7, 1, 60], [8, 3, 21], [50]]
LAST = "blocks.2.hook_resid_post"


def n_hooks(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_on_the_last_residual_changes_the_logits_as_norm_and_unembedding_say(
    family, tiny_subject
):
    subject = tiny_subject(family)
    torch.manual_seed(1)
    vector = 3 * torch.randn(subject.d_model)
    final = subject.run(torch.tensor([TEXTS[0]]), [LAST])[LAST][0, -1]
    norm = next(
        child
        for parent in subject.model.base_model.modules()
        for child in parent.children()
        if any(isinstance(c, torch.nn.ModuleList) and len(c) == 3 for c in parent.children())
        and "norm" in type(child).__name__.lower()
    )
    expected = subject.model.get_output_embeddings()(norm((final + vector)[None, None]))[0, 0]
    cap = getattr(subject.model.config, "final_logit_softcapping", None)
    expected = cap * torch.tanh(expected / cap) if cap else expected
    with subject.intervene(AddVector(LAST, vector)):
        steered = subject.next_logits(TEXTS)[0]
    torch.testing.assert_close(steered, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(steered, subject.next_logits(TEXTS)[0], atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_place_can_be_written_to_and_reads_back_what_was_written(family, tiny_subject):
    subject = tiny_subject(family)
    ids = torch.tensor([TEXTS[0]])
    before = n_hooks(subject.model)
    for name in hook_names(subject.model):
        if subject.hook(name).side == NORMALIZED:
            edits = subject.intervene(AddVector(name, torch.ones(1)))
            with pytest.raises(AutointerpError, match="inside a norm"), edits:
                pass
            continue
        plain = subject.run(ids, [name])[name]
        vector = torch.linspace(-1, 1, plain.shape[-1])
        with subject.intervene(AddVector(name, vector, (2,))):
            seen = subject.run(ids, [name])[name]
            logits = next(subject.each_logits(TEXTS[:1]))
        expected = plain.clone()
        expected[0, 2] += vector
        torch.testing.assert_close(seen, expected)
        unchanged = next(subject.each_logits(TEXTS[:1]))
        assert torch.equal(logits[:2], unchanged[:2])
        assert not torch.allclose(logits[2], unchanged[2], atol=1e-5)
    assert n_hooks(subject.model) == before


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "gpt_neox"])
def test_the_middle_of_a_block_is_the_stream_that_goes_on(family, tiny_subject):
    # With what attention adds: the same stream, one step earlier.
    subject = tiny_subject(family)
    vector = torch.linspace(-1, 1, subject.d_model)
    with subject.intervene(AddVector("blocks.1.hook_resid_mid", vector)):
        middle = subject.next_logits(TEXTS)
    with subject.intervene(AddVector("blocks.1.hook_attn_out", vector)):
        torch.testing.assert_close(subject.next_logits(TEXTS), middle, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_what_single_texts_give_plain_and_steered(family, tiny_subject):
    subject = tiny_subject(family)
    edit = AddVector("blocks.1.hook_resid_post", torch.full((subject.d_model,), 0.7), (-1, 0))
    plain = [subject.next_logits([text])[0] for text in TEXTS]
    torch.testing.assert_close(subject.next_logits(TEXTS), torch.stack(plain), atol=1e-4, rtol=1e-4)
    with subject.intervene(edit):
        alone = [subject.next_logits([text])[0] for text in TEXTS]
        together = subject.next_logits(TEXTS)
        everywhere = list(subject.each_logits(TEXTS, batch_size=2))
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-4, rtol=1e-4)
    assert [len(one) for one in everywhere] == [7, 3, 1]
    last = torch.stack([one[-1] for one in everywhere])
    torch.testing.assert_close(last, together, atol=1e-4, rtol=1e-4)


def test_logits_are_those_of_the_model_itself(tiny_subject):
    subject = tiny_subject("llama")
    expected = subject.model(input_ids=torch.tensor([TEXTS[0]])).logits[0]
    torch.testing.assert_close(next(subject.each_logits(TEXTS[:1])), expected)


def test_texts_may_have_vectors_of_their_own(tiny_subject):
    subject = tiny_subject("gpt2")
    vectors = torch.randn(3, subject.d_model, generator=torch.Generator().manual_seed(0))
    with subject.intervene(AddVector(LAST, vectors)):
        together = subject.next_logits(TEXTS, batch_size=2)
    for text, vector, logits in zip(TEXTS, vectors, together, strict=True):
        with subject.intervene(AddVector(LAST, vector)):
            torch.testing.assert_close(subject.next_logits([text])[0], logits, atol=1e-4, rtol=1e-4)
    refused = pytest.raises(AutointerpError, match="values for 2 texts, but text 2 is run")
    with refused, subject.intervene(AddVector(LAST, vectors[:2])):
        subject.next_logits(TEXTS)


@pytest.mark.parametrize(
    ("positions", "touched"),
    [
        ("all", [0, 1, 2, 3, 4, 5, 6]),
        ("prompt", [0, 1, 2, 3, 4, 5, 6]),
        ("last", [6]),
        ("new", []),
        ((0, 3), [0, 3]),
        ((-1, -7, 40), [0, 6]),
        (torch.tensor([[False, True, False, False, True]] * 2), [1, 4]),
    ],
)
def test_positions_are_counted_in_each_text_without_its_padding(positions, touched, tiny_subject):
    subject = tiny_subject("llama")
    seen: list[Tensor] = []
    module = subject.hook(LAST).module
    with subject.intervene(SetTo(LAST, torch.full((subject.d_model,), 9.0), positions)):
        handle = module.register_forward_hook(lambda _m, _a, out: seen.append(out))
        subject.next_logits([TEXTS[1], TEXTS[0]])
        handle.remove()
    output = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    is_nine = (output == 9.0).all(-1)
    assert is_nine[1].nonzero().flatten().tolist() == touched
    if positions == "last":
        assert is_nine[0].nonzero().flatten().tolist() == [6]
    if isinstance(positions, Tensor):
        assert is_nine[0].nonzero().flatten().tolist() == [5]  # place 1 of 3 tokens after 4 of pad


def test_zero_change_is_no_change_to_the_bit(tiny_subject):
    subject = tiny_subject("gemma2")
    plain = subject.next_logits(TEXTS)
    with subject.intervene(AddVector(LAST, torch.zeros(subject.d_model))):
        assert torch.equal(subject.next_logits(TEXTS), plain)


@dataclass(frozen=True)
class Breaks:
    """An edit that fails."""

    read_at: str | None = None
    write_at: str = LAST
    positions: str = "all"

    def change(self, hidden, tokens) -> Tensor:
        raise ZeroDivisionError


def test_no_hook_is_left_behind_even_on_an_error(tiny_subject):
    subject = tiny_subject("qwen2")
    before, plain = n_hooks(subject.model), subject.next_logits(TEXTS)
    vector = torch.ones(subject.d_model)
    with pytest.raises(ZeroDivisionError), subject.intervene(AddVector(LAST, vector), Breaks()):
        subject.next_logits(TEXTS)
    edits = subject.intervene(AddVector(LAST, vector), AddVector("blocks.9.hook_z", vector))
    with pytest.raises(AutointerpError, match="does not exist"), edits:
        pass
    assert n_hooks(subject.model) == before
    assert subject.passing is None
    assert torch.equal(subject.next_logits(TEXTS), plain)


def test_blocks_may_be_nested_and_add_up(tiny_subject):
    subject = tiny_subject("llama")
    one, two = torch.ones(subject.d_model), torch.linspace(0, 1, subject.d_model)
    with subject.intervene(AddVector(LAST, one)), subject.intervene(AddVector(LAST, two)):
        nested = subject.next_logits(TEXTS)
    with subject.intervene(AddVector(LAST, one + two)):
        torch.testing.assert_close(subject.next_logits(TEXTS), nested, atol=1e-5, rtol=1e-5)


def test_a_bare_call_of_the_model_is_changed_everywhere_or_refused(tiny_subject):
    subject = tiny_subject("llama")
    ids, vector = torch.tensor([TEXTS[0]]), torch.ones(subject.d_model)
    with subject.intervene(AddVector(LAST, vector)):
        bare = subject.model(input_ids=ids).logits[0]
        torch.testing.assert_close(bare, next(subject.each_logits(TEXTS[:1])))
    refused = pytest.raises(AutointerpError, match="bare call")
    with refused, subject.intervene(AddVector(LAST, vector, "last")):
        subject.model(input_ids=ids)


def test_what_is_read_must_come_before_what_is_written(tiny_subject):
    @dataclass(frozen=True)
    class Backwards(Breaks):
        read_at: str | None = LAST
        write_at: str = "blocks.0.hook_resid_post"

    subject = tiny_subject("llama")
    refused = pytest.raises(AutointerpError, match="which comes first in the model")
    with refused, subject.intervene(Backwards()):
        subject.next_logits(TEXTS)


def test_memory_that_does_not_suffice_halves_the_batch_and_keeps_rows_apart(tiny_subject):
    subject = tiny_subject("llama")
    vectors = torch.randn(3, subject.d_model, generator=torch.Generator().manual_seed(0))
    with subject.intervene(AddVector(LAST, vectors)):
        expected = subject.next_logits(TEXTS)
        sizes = []

        def check(module, args, kwargs):
            sizes.append(len(kwargs["input_ids"]))
            if sizes[-1] > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")

        handle = subject.model.base_model.register_forward_pre_hook(check, with_kwargs=True)
        found = subject.next_logits(TEXTS)
        handle.remove()
    assert sizes == [3, 1, 1, 1]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
