"""Every preset's numbers against those that were published, each with where they stand."""

import re
from pathlib import Path
from typing import Any

import pytest

from autointerp.config import RunConfig, parse_config
from autointerp.presets import PRESETS, load_preset
from autointerp.scorers import SCORERS, bricken60, saebench
from autointerp.scorers.recall import DECOYS, N_ACTIVE, N_SILENT

PAGES = Path(__file__).parents[2] / "docs" / "presets"

BASE: dict[str, Any] = {
    "subjects": {"subject": {}},
    "corpus": {"path": "demo"},
    "sources": {"features": {"type": "sae", "path": "demo"}},
}


def config(name: str, **changes: Any) -> RunConfig:
    return parse_config({**BASE, "preset": name, **changes}, RunConfig, "test")


def explainer(found: RunConfig, kind: str) -> Any:
    from autointerp.explainers import load_explainer

    return load_explainer(next(e for e in found.explainers if e.type == kind))


def scorer(found: RunConfig, kind: str) -> Any:
    from autointerp.scorers import load_scorer

    (settings,) = (s for s in found.scorers if s.type == kind)
    return load_scorer(settings, found.score, found.record.design.name)


def quotas(found: RunConfig, split: str) -> Any:
    assert found.record.design.quotas is not None
    return found.record.design.quotas[split]


def test_bills2023():
    """Public code of Bills et al. 2023 (openai/automated-interpretability): 64-token excerpts, five
    records a split, top ones to explain, 5 top + 5 random = 640 tokens to score; explainer at
    temperature 1.0 and 60 tokens; levels 0 to 10; one Pearson r over all tokens pooled."""
    found = config("bills2023")
    assert found.corpus is not None
    assert found.corpus.window_length == 64
    assert found.corpus.sequence_length - found.corpus.n_masked_start == 64
    made = explainer(found, "token_activation_pairs")
    assert (made.n_windows, made.temperature, made.max_new_tokens) == (5, 1.0, 60)
    assert made.n_samples == 1 and made.n_explanations in (None, 1)
    assert found.simulator.name == "all_at_once" and found.simulator.levels == "0-10"
    test = quotas(found, "test")
    assert (test.top, test.silent, test.random, test.intervals) == (5, 5, 5, 0)
    assert (test.top + test.silent) * found.corpus.window_length == 640
    assert [s.type for s in found.scorers] == ["simulation"]
    as_published = config("bills2023", faithful=True)
    assert as_published.score.windows == "top_and_random"
    assert as_published.simulator.mass_floor == 0  # no lower bound on the kept mass
    assert (test.top + test.random) * 64 == 640


def test_bricken2023():
    """Bricken et al. 2023, Automated Interpretability: the explainer sees 49 examples: 10 of the
    top interval, 2 of each of the other 12, 5 random, 10 with top tokens out of context; levels 0
    to 9. 60 are predicted at once: 6 top, 2 x 12, 10 random, 20 with top tokens out of context."""
    from autointerp.explainers import intervals

    found = config("bricken2023")
    assert explainer(found, "intervals").n_windows == 49
    assert (intervals.N_TOP, intervals.N_OTHER, intervals.N_RANDOM) == (10, 2, 5)
    assert (intervals.N_OUT_OF_CONTEXT, intervals.N_INTERVALS, intervals.N_LEVELS) == (10, 13, 10)
    assert 10 + 2 * 12 + 5 + 10 == 49
    assert scorer(found, "bricken60").n_per_prompt == 60
    assert (bricken60.N_TOP, bricken60.N_OTHER, bricken60.N_RANDOM) == (6, 2, 10)
    assert (bricken60.N_OUT_OF_CONTEXT, bricken60.N_INTERVALS, bricken60.BEST) == (20, 13, 9)
    assert 6 + 2 * 12 + 10 + 20 == 60
    explain, test = quotas(found, "explain"), quotas(found, "test")
    # Enough is recorded for each of those numbers; a third of hard windows are by a top token.
    assert explain.top >= 10 and explain.intervals >= 24 and explain.random >= 5
    assert explain.hard // 3 >= 10
    assert test.top >= 6 and test.intervals >= 24 and test.silent >= 10 and test.hard // 3 >= 20


def test_delphi():
    """Public code of Paulo et al. 2024 (EleutherAI/delphi): 10M tokens, context 256, windows of 32;
    40 examples to explain and 50 to test, both from 10 quantiles; highlights above 0.3 of a
    window's maximum, at most 11 listed values; 50 non-activating; five a prompt; temperature 0."""
    from autointerp.explainers.windows import HIGHLIGHT_SHARE, N_GROUPS, N_VALUES

    found = config("delphi")
    assert found.corpus is not None and found.corpus.max_tokens == 10_000_000
    assert found.corpus.sequence_length - found.corpus.n_masked_start == 256
    assert found.corpus.window_length == 32
    made = explainer(found, "highlights")
    assert (made.n_windows, made.sampling, made.values) == (40, "decile", True)
    assert (HIGHLIGHT_SHARE, N_GROUPS, N_VALUES) == (0.3, 10, 11)
    assert made.temperature == 0
    assert quotas(found, "explain").total == quotas(found, "explain").intervals == 40
    test = quotas(found, "test")
    assert (test.intervals, test.silent, test.total) == (50, 50, 100)
    for kind in ("detection", "fuzzing"):
        assert scorer(found, kind).n_per_prompt == 5
    assert scorer(found, "detection").negatives == ("silent",)


def test_saebench():
    """Karvonen et al. 2025, autointerp of SAEBench: 1,000 latents, 2M tokens, context 128; windows
    of 21 (buffer 10); 10 top + 5 importance-weighted to explain, in at most 30 tokens; 2 top + 2
    importance-weighted + 10 random in one prompt, plain accuracy over 14, base rate 0.714."""
    from autointerp.explainers import short

    found = config("saebench")
    assert found.corpus is not None and found.corpus.max_tokens == 2_000_000
    assert found.corpus.sequence_length - found.corpus.n_masked_start == 128
    assert found.corpus.window_length == 2 * saebench.BUFFER + 1 == 2 * short.BUFFER + 1 == 21
    assert found.units.sample == 1000
    made = explainer(found, "short")
    assert (made.n_windows, made.max_new_tokens) == (15, 30)
    assert round(short.TOP_SHARE * made.n_windows) == 10
    judged = scorer(found, "saebench")
    assert (saebench.N_TOP, saebench.N_IMPORTANCE, saebench.N_NEGATIVE) == (2, 2, 10)
    assert judged.n_per_prompt == 14 and judged.metric == "accuracy" and judged.verified
    assert round(saebench.N_NEGATIVE / 14, 3) == 0.714
    test = quotas(found, "test")
    assert test.silent >= 10 and test.random >= 10 and test.top >= 2
    assert not scorer(config("saebench", faithful=True), "saebench").verified


def test_neuronpedia():
    """Neuronpedia: `np_max-act-logits` shows ten strongest tokens and ten promoted ones; its port
    of detection and fuzzing takes 10 contexts of each of 10 quantiles and 100 non-activating, five
    a prompt, balanced accuracy; recall_alt 20 active, 5 silent and 5 made-up texts."""
    from autointerp.explainers.max_act_logits import N_LOGITS

    found = config("neuronpedia")
    assert explainer(found, "max_act_logits").n_windows == N_LOGITS == 10
    test = quotas(found, "test")
    assert (test.intervals, test.silent, test.total) == (10 * 10, 100, 200)
    for kind in ("detection", "fuzzing"):
        assert scorer(found, kind).n_per_prompt == 5
    assert scorer(found, "detection").negatives == ("silent",)
    assert scorer(found, "recall_alt").kind == "recall_alt"
    assert (N_ACTIVE, N_SILENT, len(DECOYS)) == (20, 5, 5)
    numbers = {one.scorer: one.number for one in load_preset("neuronpedia").published}
    assert numbers == {"detection": "balanced_accuracy", "fuzzing": "balanced_accuracy",
                       "recall_alt": "accuracy"}  # fmt: skip


def test_transluce():
    """Choi et al. 2024, public config (TransluceAI/observatory): 1M sequences of 95 tokens, 100
    exemplars a polarity, 50 explanation samples from 10 to 20 exemplars, the best by simulated
    score; scored on valid and random_valid exemplars."""
    found = config("transluce")
    assert found.corpus is not None and found.corpus.window_length == 95
    assert found.corpus.sequence_length - found.corpus.n_masked_start == 95
    assert found.corpus.max_tokens == 1_000_000 * 95
    assert quotas(found, "explain").top == quotas(found, "explain").total == 100
    made = explainer(found, "highlights")
    assert made.n_samples == 50 and 10 <= made.n_windows <= 20 and made.sampling == "top"
    assert made.temperature > 0
    chooser = explainer(found, "best_of")
    assert (chooser.of, chooser.by) == (("samples",), "simulation")
    assert found.simulator.name == "embedded"  # trained to read all at once
    assert config("transluce", faithful=True).score.windows == "top_and_random"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_numbers_that_its_scorers_have(name):
    found, preset = config(name), load_preset(name)
    types = {scorer.name: scorer.type for scorer in found.scorers}
    assert {one.scorer for one in preset.published} <= set(types)
    assert all(kind in SCORERS or kind == "simulation" for kind in types.values())


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_of_a_preset_says_what_the_preset_says(name):
    page = " ".join((PAGES / f"{name}.md").read_text().split())
    preset = load_preset(name)
    for sentence in (preset.source, *preset.differs):
        assert " ".join(sentence.split()) in page, sentence
    assert "## What is the same" in page and "## What is not" in page
    assert "## `faithful`" in page and "## Cost" in page


@pytest.mark.parametrize("name", PRESETS)
def test_links_of_the_page_lead_somewhere(name):
    page = PAGES / f"{name}.md"
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_overview_links_every_preset_and_its_example_is_valid():
    import yaml

    text = (PAGES.parent / "presets.md").read_text()
    assert set(re.findall(r"\(presets/(\w+)\.md\)", text)) == set(PRESETS)
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert parse_config(yaml.safe_load(block), RunConfig, "presets.md").preset == "delphi"


@pytest.mark.parametrize("name", PRESETS)
def test_examples_of_the_pages_are_valid(name):
    import yaml

    text = (PAGES / f"{name}.md").read_text()
    for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL):
        found = parse_config(yaml.safe_load(block), RunConfig, name)
        assert found.preset == name
