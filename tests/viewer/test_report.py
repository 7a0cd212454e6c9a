import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autointerp.analysis.aggregate import summarise
from autointerp.analysis.compare import compare_all, compare_scorers
from autointerp.analysis.figure import draw_comparison
from autointerp.analysis.results import RunResults
from autointerp.records import Neighbour, Status, TokenLogit, UnitId, UnitRecord
from autointerp.viewer.report import _places, render_report, write_report

from ..analysis.synthetic import (
    EXPLAINERS,
    every_kind,
    explanation_of,
    judged_run,
    run_of,
    score_of,
    unit_of,
    window_of,
)

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = '<script>alert("x")</script>\'"><img src=x onerror=alert(1)>&amp;{{7*7}}'


class Page(HTMLParser):
    """Every element and attribute of a page; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def tags(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def render(results: RunResults, figure: str = "") -> str:
    return render_report(results, summarise(results), compare_all(results), figure)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    results = every_kind()
    comparisons = compare_all(results)
    stem = tmp_path_factory.mktemp("page") / "comparison"
    svg = draw_comparison(results, comparisons, stem)[1].read_text(encoding="utf-8")
    write_report(results, summarise(results), comparisons, svg, stem.with_name("report.html"))
    return stem.with_name("report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_tag_is_closed_and_ids_are_unique(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_nothing_runs_and_nothing_is_fetched(html: str, page: Page) -> None:
    assert not page.tags("script")
    for tag, attributes in page.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), (tag, name, value)
    assert "http://" not in html
    assert "https://" not in html


def test_the_policy_allows_the_one_style_sheet_and_nothing_else(html: str, page: Page) -> None:
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(
        attributes["content"]
        for attributes in page.tags("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_tables_have_headers_and_regions_have_names(page: Page) -> None:
    assert all("scope" in attributes for attributes in page.tags("th"))
    for _, attributes in page.elements:
        if attributes.get("role") in ("img", "region"):
            assert attributes.get("aria-label")
    assert page.tags("html") == [{"lang": "en"}]


def test_incomplete_scores_are_on_the_page_with_the_remedy() -> None:
    results = every_kind()
    summary = summarise(results)
    summary["sources"]["features"]["explainers"]["words"]["counts"]["incomplete"] = 2
    page = Page(render_report(results, summary, compare_all(results), ""))
    assert "of 2 scores some requests failed: autointerp retry" in page.words


def test_numbers_and_verdict_of_the_analysis_are_on_the_page(page: Page) -> None:
    results = every_kind()
    words = page.words
    assert compare_all(results)[1]["verdict"] in words
    assert "undefined as 0: 0.10" in words
    assert "with 3 failed or not run:" in words
    assert "1 constant prediction, counted 0" in words
    assert "3 of 9" in words


def test_every_status_is_counted_on_the_page(page: Page) -> None:
    for status in ("constant prediction", "undefined truth", "insufficient data", "failed",
                   "dead", "not run"):  # fmt: skip
        assert status in page.words
    assert "the simulator ran out of memory" in page.words


def test_every_selected_unit_is_in_the_table(page: Page) -> None:
    for unit in every_kind().units:
        assert str(unit.unit) in page.words


def test_the_explainer_shown_in_full_is_named(page: Page) -> None:
    assert "highest, median and lowest lift under top_tokens" in page.words


def test_the_weak_model_is_named_only_where_it_was_used() -> None:
    results = every_kind()
    assert "SmolLM2-135M is a weak explainer and a weak simulator" in Page(render(results)).words
    config = {
        **results.config,
        "llm": {"model": "local/other"},
        "simulator": {"name": "all_at_once", "model": "other"},
    }
    other = RunResults(**{**vars(results), "config": config})
    assert "SmolLM2-135M" not in Page(render(other)).words


def hostile_run() -> RunResults:
    unit = UnitId("features", 0)
    tokens = [HOSTILE, "\u202eevil", "\u200b", "שלום", "x" * 100_000, "\x00\ud800"]
    text = "".join(tokens)
    ends = np.cumsum([len(token) for token in tokens]).astype(np.int32)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int32)
    windows = [window_of(unit, range(6), tokens)]
    explanations = {name: explanation_of(unit, name, HOSTILE) for name in EXPLAINERS}
    failed = UnitId("features", 1)
    bad = {name: explanation_of(failed, name, None, Status.FAILED, HOSTILE) for name in EXPLAINERS}
    units = [
        unit_of(unit, 0.5, windows=windows, explanations=explanations),
        unit_of(failed, explanations=bad),
    ]
    return run_of(
        units,
        ["features"],
        name=HOSTILE,
        sequence_texts={"s0": {"text": text, "document_name": HOSTILE, "kind": HOSTILE}},
        char_spans={"s0": (starts, ends)},
        provenance={HOSTILE: {HOSTILE: [HOSTILE]}},
        config={HOSTILE: HOSTILE, "corpus": {"path": HOSTILE}},
        ledger=({HOSTILE: HOSTILE, "tokens": 3},),
    )


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    results = hostile_run()
    write_report(results, summarise(results), [], "", tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not page.tags("script")
    assert not page.tags("img")
    assert "{{7*7}}" in page.words
    assert not [1 for _, attributes in page.elements if "onerror" in attributes]
    assert "\u202e" not in html
    assert "\x00" not in html
    assert "⟨U+202E⟩" in page.words


def test_a_long_token_does_not_make_a_long_page() -> None:
    assert len(render(hostile_run())) < 100_000


def test_rtl_text_is_isolated_and_an_rtl_window_runs_from_the_right() -> None:
    unit = UnitId("features", 0)
    windows = [window_of(unit, [1, 2], ["שלום", " עולם"])]
    results = run_of([unit_of(unit, 0.5, windows=windows)], sequence_texts={}, char_spans={})
    page = Page(render(results))
    strips = [a for a in page.tags("div") if a.get("class") == "strip" and a.get("role") == "img"]
    assert [strip["dir"] for strip in strips] == ["rtl"]
    assert page.tags("bdi")


def test_a_lookup_table_is_shown_by_its_strongest_tokens(page: Page) -> None:
    assert "“ dog” 3.20, “ cats.” 1.50" in "".join(page.text)


def test_32_units_make_a_small_page() -> None:
    rng = np.random.default_rng(0)
    units = []
    for source in ("features", "neurons"):
        for i in range(16):
            unit = UnitId(source, i)
            tokens = [f" token{j}" for j in range(32)]
            windows = [
                window_of(unit, rng.random(32) * 4, tokens, sequence_id=f"s{k}") for k in range(8)
            ]
            scores = {name: score_of(unit, name, float(rng.random())) for name in EXPLAINERS}
            units.append(unit_of(unit, scores, windows=windows))
    results = run_of(units, sequence_texts={}, char_spans={})
    assert len(render(results).encode()) < 750_000


def test_runs_without_scores_words_or_units_have_a_page() -> None:
    dead = unit_of(UnitId("features", 0), status=Status.DEAD)
    Page(render(run_of([dead], ["features"])))
    Page(render(run_of([], ["features"])))
    only_table = run_of(
        [unit_of(UnitId("features", 0), {"token_lookup": 0.5})],
        ["features"],
        explainers=("token_lookup",),
    )
    assert "No explainer with words was run" in Page(render(only_table)).words
    bare = run_of([dead], ["features"], provenance={}, config={}, ledger=(), seconds={})
    Page(render(bare))


@pytest.mark.parametrize("n", range(9))
def test_highest_median_and_lowest_name_no_unit_twice(n: int) -> None:
    places = [place for group in _places(n).values() for place in group]
    assert len(places) == len(set(places)) == min(n, 6)


def test_highest_median_and_lowest_of_nine() -> None:
    assert list(_places(9).values()) == [[0, 1], [3, 4], [7, 8]]


def written(record: UnitRecord) -> UnitRecord:
    """A record with an output side that tries to break the page."""
    return replace(
        record,
        promoted=(TokenLogit(" dog", 1, 3.25), TokenLogit(HOSTILE, 2, 1.5)),
        suppressed=(TokenLogit("\n", 3, -2.5),),
        neighbours=(Neighbour(UnitId("features", 77, -1), 0.875),),
    )


def test_a_unit_shows_what_it_writes_and_who_writes_alike() -> None:
    results = every_kind()
    before = Page(render(results))
    assert not [a for a in before.tags("dl") if a.get("class") == "writes"]
    units = tuple(replace(unit, record=written(unit.record)) for unit in results.units)
    page = Page(render(replace(results, units=units)))
    assert [a for a in page.tags("dl") if a.get("class") == "writes"]
    for words in (
        "promotes “ dog” 3.25, “<script>",
        "suppresses “↵” −2.50",
        "writes most like (cosine) features/77- 0.88",
    ):
        assert words in page.words
    assert not page.tags("script") and not page.tags("img")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            {"type": "neurons", "hook_point": "p", "sparsify": {"l0": 32}},
            "MLP neurons, the 32 strongest of every token, at p",
        ),
        ({"type": "directions", "kind": "pca", "hook_point": "p"}, "principal components at p"),
        ({"type": "attention_heads", "hook_point": "blocks.1.attn"}, "attention heads at blocks.1"),
    ],
)
def test_sources_are_called_by_what_they_are(source: dict[str, Any], words: str) -> None:
    results = every_kind()
    config = {**results.config, "sources": {**dict.fromkeys(results.sources, source)}}
    assert words in Page(render(replace(results, config=config))).words


def test_every_scorer_has_a_table_with_its_chance() -> None:
    results = judged_run()
    page = render_report(results, summarise(results), compare_scorers(results), "")
    section = page[page.index('id="scorers"') : page.index('id="units"')]
    assert "detection: average precision" in section
    assert "0.40" in section  # its chance
    assert "3 of 3" in section
    assert "simulation" not in section
