"""Generation: the model's own, alone and in batches, with and without interventions."""

import pytest
import torch

from autointerp.records import AutointerpError
from autointerp.subject import AddVector, Sampling
from autointerp.subject.generation import choose
from tests.conftest import FAMILIES

TEXTS = [[5, 9, 2, 33, 7, 1, 60], [8, 3, 21], [50]]
PLACE = "blocks.1.hook_resid_post"
GREEDY = Sampling(max_new_tokens=8, stop_at_end=False)
SAMPLED = Sampling(max_new_tokens=8, temperature=1.0, top_p=0.9, stop_at_end=False)


def without_cache(subject, prompt, sampling, number=0):
    """The same, by whole forward passes over everything so far."""
    from autointerp.subject.generation import _random

    chance, ids = _random(sampling, tuple(prompt), number), list(prompt)
    for _ in range(sampling.max_new_tokens):
        logits = next(subject.each_logits([ids]))[-1:]
        ids += choose(logits, sampling, torch.rand((), generator=chance)[None]).tolist()
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
@pytest.mark.parametrize("family", FAMILIES)
def test_cached_batched_steered_generation_is_that_of_whole_forward_passes(
    family, sampling, tiny_subject
):
    subject = tiny_subject(family)
    vector = torch.linspace(-1, 1, subject.d_model)
    with subject.intervene(AddVector(PLACE, vector)):
        found = [one.new_ids for one in subject.generate(TEXTS, sampling)]
        assert found == [without_cache(subject, text, sampling) for text in TEXTS]


def test_greedy_generation_is_that_of_transformers(tiny_subject):
    subject = tiny_subject("llama")
    found = subject.generate(TEXTS, GREEDY)
    for text, one in zip(TEXTS, found, strict=True):
        ids = subject.model.generate(
            torch.tensor([text]), max_new_tokens=8, min_new_tokens=8, do_sample=False,
            eos_token_id=None,
        )  # fmt: skip
        assert one.new_ids == tuple(ids[0, len(text) :].tolist())


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_strength_zero_is_plain_generation_token_by_token(sampling, tiny_subject):
    subject = tiny_subject("gemma3_text")
    plain = subject.generate(TEXTS, sampling)
    with subject.intervene(AddVector(PLACE, torch.zeros(subject.d_model))):
        assert subject.generate(TEXTS, sampling) == plain


def test_an_edit_of_new_tokens_leaves_the_first_one_alone_and_changes_the_rest(tiny_subject):
    subject = tiny_subject("qwen2")
    vector = 20 * torch.linspace(-1, 1, subject.d_model)
    plain = [one.new_ids for one in subject.generate(TEXTS, GREEDY)]
    with subject.intervene(AddVector(PLACE, vector, "new")):
        new = [one.new_ids for one in subject.generate(TEXTS, GREEDY)]
    with subject.intervene(AddVector(PLACE, vector, "last")):
        last = [one.new_ids for one in subject.generate(TEXTS, GREEDY)]
    assert [ids[0] for ids in new] == [ids[0] for ids in plain]
    assert new != plain
    assert [ids[0] for ids in last] != [ids[0] for ids in plain]


def test_rows_of_one_batch_may_have_strengths_of_their_own(tiny_subject):
    subject = tiny_subject("llama")
    direction = torch.linspace(-1, 1, subject.d_model)
    strengths = torch.tensor([0.0, 1.0, 5.0])
    vectors = strengths[:, None] * direction
    texts = [TEXTS[0]] * 3
    with subject.intervene(AddVector(PLACE, vectors)):
        together = subject.generate(texts, SAMPLED, samples=[0, 0, 0], batch_size=2)
    for strength, one in zip(strengths, together, strict=True):
        with subject.intervene(AddVector(PLACE, strength * direction)):
            assert subject.generate([TEXTS[0]], SAMPLED)[0] == one


def test_samples_of_one_text_differ_and_the_seed_repeats_them(tiny_subject):
    subject = tiny_subject("gpt2")
    many = subject.generate([TEXTS[0]] * 6, SAMPLED)
    assert len({one.new_ids for one in many}) > 3
    assert subject.generate([TEXTS[0]] * 6, SAMPLED, batch_size=4) == many
    other = Sampling(max_new_tokens=8, temperature=1.0, top_p=0.9, seed=1, stop_at_end=False)
    assert subject.generate([TEXTS[0]] * 6, other) != many


def test_a_text_ends_at_the_end_mark_and_the_others_go_on(tiny_subject):
    subject = tiny_subject("llama")
    long = [one.new_ids for one in subject.generate(TEXTS, SAMPLED)]
    subject.model.generation_config.eos_token_id = long[0][3]
    found = subject.generate(TEXTS, Sampling(max_new_tokens=8, temperature=1.0, top_p=0.9))
    assert found[0].ended and found[0].new_ids == long[0][: long[0].index(long[0][3])]
    for one, ids in zip(found[1:], long[1:], strict=True):
        end = ids.index(long[0][3]) if long[0][3] in ids else None
        assert one.new_ids == ids[:end]


def test_choice_by_inversion_draws_with_the_probabilities_of_the_nucleus():
    logits = torch.tensor([[1.0, 3.0, 2.0, -1.0]])
    p = logits.softmax(1)[0]
    n = 2000
    uniform = (torch.arange(n) + 0.5) / n
    drawn = choose(logits.expand(n, -1), Sampling(temperature=1.0), uniform).bincount(minlength=4)
    torch.testing.assert_close(drawn / n, p, atol=2 / n, rtol=0)
    # p = .24, .64, .09, .01 by rank .64 + .24 < .9: three tokens are left.
    drawn = choose(logits.expand(n, -1), Sampling(temperature=1.0, top_p=0.9), uniform)
    counts = drawn.bincount(minlength=4) / n
    kept = torch.tensor([p[0], p[1], p[2], 0.0])
    kept = kept / kept.sum() if p[1] + p[2] < 0.9 else kept
    torch.testing.assert_close(counts, kept, atol=2 / n, rtol=0)
    assert choose(logits, Sampling(temperature=1.0), torch.tensor([1 - 1e-7])).item() == 3


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_senseless_sampling_is_refused_by_name(wrong):
    with pytest.raises(AutointerpError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_an_empty_text_and_one_too_long_are_refused(tiny_subject):
    subject = tiny_subject("gpt2")
    with pytest.raises(AutointerpError, match="no tokens"):
        subject.generate([[]], GREEDY)
    with pytest.raises(AutointerpError, match="reads at most 256"):
        subject.generate([[1] * 257], GREEDY)
    with pytest.raises(AutointerpError, match="more than the 256"):
        subject.generate([[1] * 250], GREEDY)


@pytest.mark.parametrize(
    "run",
    [
        lambda subject: subject.generate("12", GREEDY),
        lambda subject: subject.next_logits(["12"]),
        lambda subject: subject.next_logits("12"),
        lambda subject: list(subject.each_logits(["12"])),
    ],
)
def test_a_string_is_not_taken_letter_by_letter(run, tiny_subject):
    with pytest.raises(AutointerpError, match="'12' is a string: give t"):
        run(tiny_subject("gpt2"))
