"""All-at-once simulation: slots never shift, and sharing changes nothing but the cost."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autointerp.records import AutointerpError
from autointerp.simulators import all_at_once, load_simulator
from autointerp.simulators.all_at_once import AllAtOnce, expected_levels
from autointerp.simulators.prefix_model import Own

FORMS = ("simulate_text_first", "simulate_text_inline", "simulate_tab_unknown")

SHORT_PROMPT = """{# version 1 #}
{% macro opening(top) %}Levels run to {{ top }}.{% endmacro %}
{% macro unit(explanation) %}It likes {{ explanation }}:{% endmacro %}
{% macro sequence(text) %}{{ text }}|{% endmacro %}
{% macro token(text) %}{{ text }}{% endmacro %}
{% set mark = "=" %}
{% set unknown = "?" %}
{% set separator = ";" %}
{% set text_before_unit = false %}
{% set branches = false %}
{% set closing = "." %}
{% set examples = [{"explanation": "cats", "hidden": 1, "tokens": [["A", 0], [" cat", 10]]}] %}
"""

FORKED_PROMPT = SHORT_PROMPT.replace("branches = false", "branches = true")
TEXT_BEFORE_PROMPT = FORKED_PROMPT.replace("text_before_unit = false", "text_before_unit = true")

HOSTILE = [
    ["<|im_end|>", "<|im_start|>system", "\t", "\n", "\n\n", "unknown", "\tunknown\n", "9", "0"],
    ["\ufffd", "\ufffd\ufffd", "", " ", "<|endoftext|>", "é", "世", "10", "_", "?", "=", "{{ x }}"],
    ["\x00", "\u202e", "a" * 50, "\r\n", "<start>", "</s>", "[PAD]", "Text:", "\u200d"],
]


def written(folder, source):
    path = folder / "prompt.j2"
    path.write_text(source, encoding="utf-8")
    return str(path)


@pytest.fixture
def short_prompt(tmp_path):
    return written(tmp_path, SHORT_PROMPT)


@pytest.fixture(scope="module")
def tiny(tiny_subject, tokenizer):
    subject = tiny_subject("llama", vocabulary=len(tokenizer))
    return replace(subject, tokenizer=tokenizer)


def plain(simulator, subject, explanation, tokens):
    """The same prediction without any sharing, with the model's own head.

    One full prompt per sequence, or one per token where tokens stand side by side.
    """
    prompt = simulator.prompt
    before = list(simulator._prefix_ids)
    for piece in prompt.start(explanation, "".join(tokens)):
        before += simulator._ids(piece)
    if prompt.branches:
        prompts = [before + simulator._item(token) for token in tokens]
        reads = [[-1]] * len(tokens)
    else:
        items, slots = simulator._items(tokens, [None] * len(tokens))
        prompts = [before + items]
        reads = [[len(before) + slot for slot in slots]]
    with torch.inference_mode():
        rows = [
            subject.model(torch.tensor([ids])).logits[0, read]
            for ids, read in zip(prompts, reads, strict=True)
        ]
    expected, mass = expected_levels(torch.cat(rows), torch.tensor(simulator._levels.ids))
    return expected.numpy(), mass.numpy()


def assert_equals_plain(simulator, subject, jobs, tolerance):
    for (explanation, sequences), results in zip(jobs, simulator.simulate_many(jobs), strict=True):
        assert len(results) == len(sequences)
        for tokens, simulation in zip(sequences, results, strict=True):
            expected, mass = plain(simulator, subject, explanation, tokens)
            np.testing.assert_allclose(simulation.expected, expected, atol=tolerance)
            np.testing.assert_allclose(simulation.level_mass, mass, atol=tolerance)


def jobs_of_many_lengths():
    text = "the old dog slept by the fire while rain fell on the roof in 1987"
    words = [f" {word}" for word in text.split()]
    sequences = [words[: 1 + 3 * n] for n in range(5)]
    return [
        ("animals", sequences),
        ("years written with four digits, and nothing else whatever it may be", sequences[::-1]),
        ("animals", [*sequences[:1], *HOSTILE]),
        ("", sequences[:2]),
    ]


@pytest.mark.parametrize("form", ["simulate_text_first", "simulate_tab_unknown"])
def test_shared_prefixes_and_batches_equal_one_plain_prompt_per_sequence(smollm2, form):
    (short, sequences), (long, _) = jobs_of_many_lengths()[:2]
    jobs = [(short, sequences[:1]), (long, [sequences[0], sequences[1][:2]])]
    simulator = AllAtOnce(smollm2, prompt=form, batch_tokens=200)
    assert_equals_plain(simulator, smollm2, jobs, tolerance=1e-3)


@pytest.mark.parametrize("source", [SHORT_PROMPT, FORKED_PROMPT, TEXT_BEFORE_PROMPT])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "qwen3", "gemma2"])
def test_every_family_of_models_shares_prefixes_exactly(
    tiny_subject, tokenizer, tmp_path, family, source
):
    subject = replace(tiny_subject(family, vocabulary=len(tokenizer)), tokenizer=tokenizer)
    simulator = AllAtOnce(subject, prompt=written(tmp_path, source), batch_tokens=150)
    assert_equals_plain(simulator, subject, jobs_of_many_lengths(), tolerance=1e-4)


@pytest.mark.parametrize("form", FORMS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=6),
            st.sampled_from([token for sequence in HOSTILE for token in sequence]),
        ),
        max_size=12,
    )
)
def test_slots_stand_where_the_pieces_put_them(tiny, form, tokens):
    simulator = AllAtOnce(tiny, prompt=form)
    prompt, ids = simulator.prompt, simulator._ids
    rest = prompt.start("anything", "".join(tokens))[1]
    before = list(ids(rest))
    own, slots, _ = simulator._own(before, tokens or ["x"])
    read = list(before)
    for token, slot in zip(tokens, slots, strict=False):
        item = [*ids(prompt.token(token)), *ids(prompt.mark)]
        if prompt.branches:
            assert own.path(slot) == [*before, *item]
            continue
        read += item
        assert slot == len(read) - 1
        assert own.path(slot) == read
        read += [*ids(prompt.unknown), *ids(prompt.separator)]
    assert not set(own.ids) & set(simulator._tokenizer.all_special_ids)
    (simulation,) = simulator.simulate("anything", [tokens])
    for array in (simulation.expected, simulation.known, simulation.level_mass):
        assert array.shape == (len(tokens),)
    assert np.isfinite(simulation.expected).all()
    assert ((simulation.level_mass >= 0) & (simulation.level_mass <= 1)).all()


@pytest.mark.parametrize("text", ["<|im_end|>", "a<|im_start|>b", "<|endoftext|><|im_end|>"])
def test_what_looks_like_a_special_token_is_text(tiny, text):
    simulator = AllAtOnce(tiny)
    special = set(simulator._tokenizer.all_special_ids)
    assert not special & set(simulator._own(list(simulator._ids(text)), [text, text])[0].ids)
    assert not special & set(simulator._ids(simulator.prompt.unit(text)))
    assert simulator._tokenizer.decode(list(simulator._ids(text))) == text


def test_a_token_does_not_change_what_was_read_before_it(tiny, tmp_path):
    without_text = SHORT_PROMPT.replace("{{ text }}|{% endmacro %}", "|{% endmacro %}")
    simulator = AllAtOnce(tiny, prompt=written(tmp_path, without_text))
    first, second = simulator.simulate("cats", [["a", " b", " c"], ["a", " b", "\t\n<|im_end|>"]])
    np.testing.assert_allclose(first.expected[:2], second.expected[:2], atol=1e-5)


def test_expected_levels_are_the_mean_over_levels_and_the_mass_is_over_the_vocabulary():
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.5, 0.5]])
    expected, mass = expected_levels(probabilities.log(), torch.tensor([1, 2]))
    torch.testing.assert_close(expected, torch.tensor([0.6, 1.0]))
    torch.testing.assert_close(mass, torch.tensor([0.5, 0.5]))


def test_levels_stop_at_nine_where_ten_is_two_tokens(tiny):
    simulator = AllAtOnce(tiny)
    assert simulator.n_levels == 10
    assert [simulator._tokenizer.decode([i]) for i in simulator._levels.ids] == list("0123456789")


def test_tokens_below_the_mass_floor_are_not_known(tiny, short_prompt):
    sequence = [" the", " cat", " sat"]
    (lenient,) = AllAtOnce(tiny, prompt=short_prompt, mass_floor=0.0).simulate("x", [sequence])
    floor = float(np.median(lenient.level_mass))
    (strict,) = AllAtOnce(tiny, prompt=short_prompt, mass_floor=floor).simulate("x", [sequence])
    assert lenient.known.all()
    np.testing.assert_array_equal(strict.known, lenient.level_mass >= floor)
    assert 0 < strict.known.sum() < 3


def test_running_out_of_memory_halves_the_batch_and_loses_nothing(tiny, short_prompt, monkeypatch):
    jobs = jobs_of_many_lengths()
    whole = AllAtOnce(tiny, prompt=short_prompt).simulate_many(jobs)
    simulator = AllAtOnce(tiny, prompt=short_prompt)
    simulator.simulate("cats", [["a"]])
    model = simulator._few_shot.model
    run, run_heads = model.hidden, model.heads

    def only_two_heads(prefix, ids):
        if len(ids) > 2:
            raise torch.OutOfMemoryError
        return run_heads(prefix, ids)

    def only_three_rows(prefix, heads, rows):
        if len(rows) > 3:
            raise torch.OutOfMemoryError
        return run(prefix, heads, rows)

    monkeypatch.setattr(model, "heads", only_two_heads)
    monkeypatch.setattr(model, "hidden", only_three_rows)
    before = simulator.batch_tokens
    for ours, theirs in zip(simulator.simulate_many(jobs), whole, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.expected, b.expected, atol=1e-4)
    assert simulator.batch_tokens < before

    def never(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(model, "hidden", never)
    with pytest.raises(AutointerpError, match="no memory for one sequence"):
        simulator.simulate_many(jobs)


def test_a_prompt_longer_than_the_context_is_refused_before_it_runs(
    tiny_subject, tokenizer, short_prompt
):
    gpt2 = replace(tiny_subject("gpt2", vocabulary=len(tokenizer)), tokenizer=tokenizer)
    with pytest.raises(AutointerpError, match="reads at most 256"):
        AllAtOnce(gpt2, prompt=short_prompt).simulate("cats", [[" cat"] * 200])


def test_prompts_are_found_by_name_or_path_and_refused_in_a_sentence(tiny, tmp_path):
    with pytest.raises(AutointerpError, match="simulate_nothing"):
        AllAtOnce(tiny, prompt="simulate_nothing")
    half = written(tmp_path, "{% macro opening(top) %}{% endmacro %}")
    with pytest.raises(AutointerpError, match="is not a simulation prompt"):
        AllAtOnce(tiny, prompt=half)
    no_mark = written(tmp_path, FORKED_PROMPT.replace('mark = "="', 'mark = ""'))
    with pytest.raises(AutointerpError, match="nothing to read a level after"):
        AllAtOnce(tiny, prompt=no_mark)
    with pytest.raises(AutointerpError, match="mass_floor must lie between 0 and 1"):
        AllAtOnce(tiny, mass_floor=2.0)


def test_the_fingerprint_follows_model_prompt_and_settings(tiny):
    base = AllAtOnce(tiny).fingerprint
    assert base == AllAtOnce(tiny, batch_tokens=7).fingerprint
    others = [
        AllAtOnce(tiny, prompt="simulate_tab_unknown"),
        AllAtOnce(tiny, mass_floor=0.5),
        AllAtOnce(replace(tiny, fingerprint="another")),
    ]
    assert len({base, *(simulator.fingerprint for simulator in others)}) == 4


def test_tokens_are_counted_as_they_are_read(tiny, tmp_path):
    sequence = [" the", " cat", " sat"]
    jobs = [("cats", [sequence, sequence]), ("dogs", [sequence, []])]
    for source, heads in ((SHORT_PROMPT, ["cats", "dogs"]), (TEXT_BEFORE_PROMPT, ["the text"])):
        simulator = AllAtOnce(tiny, prompt=written(tmp_path, source))
        text = "".join(sequence)
        shared, rest = simulator.prompt.start("cats", text)
        own, _, _ = simulator._own(list(simulator._ids(rest)), sequence)
        expected = len(heads) * len(simulator._ids(shared)) + 3 * len(own.ids)
        assert simulator.count_tokens(jobs) == expected


def test_branches_take_the_positions_they_would_have_alone():
    own = Own([5, 6, 7, 8, 9], [-1, 0, 1, 1, 3])
    assert own.positions() == [0, 1, 2, 2, 3]
    assert [own.path(place) for place in (2, 4)] == [[5, 6, 7], [5, 6, 8, 9]]
    assert own.seen()[4].tolist() == [True, True, False, True, True]
    assert Own([5, 6]).positions() == [0, 1]


def test_nothing_to_simulate_runs_nothing(tiny, monkeypatch):
    simulator = load_simulator("all_at_once", subject=tiny)
    monkeypatch.setattr(all_at_once, "read_few_shot", None)
    assert simulator.simulate_many([]) == []
    (empty,) = simulator.simulate("cats", [[]])
    assert empty.expected.shape == (0,)


def test_the_embedded_model_simulates_a_planted_unit(smollm2, planted, capsys):
    """Shapes and ranges only: how well it does is reported by benchmarks/planted.py."""
    simulator = load_simulator("all_at_once", subject=smollm2)
    assert isinstance(simulator, all_at_once.AllAtOnce)
    unit = planted[2]
    windows = unit.tokens["test"][:2]
    for simulation in simulator.simulate(unit.explanation, windows):
        assert simulation.expected.shape == simulation.known.shape == (32,)
        assert simulation.expected.dtype == simulation.level_mass.dtype == np.float32
        assert ((simulation.expected >= 0) & (simulation.expected <= 9)).all()
        assert ((simulation.level_mass >= 0) & (simulation.level_mass <= 1)).all()
        np.testing.assert_array_equal(simulation.known, simulation.level_mass >= 0.01)
