"""Prices: a table with dates and sources, and no guesses."""

from datetime import date
from pathlib import Path

import pytest

from autointerp.llm.base import Usage
from autointerp.llm.prices import load_prices
from autointerp.records import UsageError


def test_every_shipped_row_has_a_vendors_source_and_a_date_in_the_past() -> None:
    rows = load_prices().shipped
    assert len(rows) >= 10
    for row in rows:
        assert row.source.startswith("https://"), row.model
        assert date(2026, 1, 1) < row.date < date(2026, 11, 23), row.model
        assert row.model.split("/")[0] in ("openai", "anthropic")
        assert row.input < row.output and (row.cached_input or 0) < row.input
    names = [row.model for row in rows]
    assert len(set(names)) == len(names)


def test_the_worked_example_of_a_vendor_comes_out() -> None:
    """5,000 tokens in and 800 out at $4 and $20 are $0.036, and half of it in a batch."""
    price = load_prices().find("anthropic/claude-opus-5-5")
    assert price is not None
    assert price.usd(Usage(5000, 0, 800)) == pytest.approx(0.036)
    assert price.usd(Usage(5000, 0, 800), batch=True) == pytest.approx(0.018)


def test_cached_and_written_tokens_have_prices_of_their_own() -> None:
    price = load_prices().find("anthropic/claude-haiku-4-5")
    assert price is not None
    usage = Usage(input_tokens=1_000_000, cached_tokens=400_000, cache_write_tokens=100_000)
    assert price.usd(usage) == pytest.approx(0.5 * 1.0 + 0.4 * 0.10 + 0.1 * 1.25)


def test_an_unknown_model_has_no_price() -> None:
    prices = load_prices()
    assert prices.find("openai/some-model-of-mine") is None
    assert prices.find("openai/gpt-4.1-mini-turbo") is None
    assert prices.find("openrouter/openai/gpt-4.1-mini") is None


def test_a_dated_snapshot_costs_what_its_model_costs() -> None:
    prices = load_prices()
    plain, dated = prices.find("openai/gpt-4.1-mini"), prices.find("openai/gpt-4.1-mini-2025-04-14")
    assert plain is not None and dated == plain
    assert prices.find("anthropic/claude-haiku-4-5-20251001") is not None


def test_another_server_has_only_the_users_own_prices(tmp_path: Path) -> None:
    assert load_prices().find("openai/gpt-4.1-mini", vendor=False) is None
    file = tmp_path / "prices.yaml"
    file.write_text(
        "- {model: openai/gpt-4.1-mini, input: 1, output: 2, date: 2026-11-01, source: my bill}\n"
    )
    own = load_prices(file).find("openai/gpt-4.1-mini", vendor=False)
    assert own is not None and own.input == 1
    assert load_prices(file).find("openai/gpt-5-nano") is not None


def test_a_prompt_beyond_what_a_price_covers_has_none() -> None:
    price = load_prices().find("anthropic/claude-haiku-5-5")
    assert price is not None
    assert price.usd(Usage(100_001, 0, 1)) is None
    assert price.most(100_001, 1) is None


def test_a_batch_without_a_known_price_has_none(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("- {model: openai/x, input: 1, output: 2, date: 2026-11-01, source: bill}\n")
    price = load_prices(file).find("openai/x")
    assert price is not None
    assert price.usd(Usage(10, 0, 10), batch=True) is None


def test_local_models_cost_nothing() -> None:
    price = load_prices().find("local/smollm2")
    assert price is not None and price.usd(Usage(10**9, 0, 10**9)) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {model: openai/x, input: -1, output: 2, date: 2026-11-01, source: s}", "0.input"),
        ("- {model: openai/x, input: 1, output: 2, source: s}", "0.date"),
        ("- {model: openai/x, input: 1, output: 2, date: 2026-11-01}", "0.source"),
        ("{a: b}", "list"),
        ("[", "not YAML"),
    ],
)
def test_a_wrong_row_is_refused_by_its_place(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_prices(file)
