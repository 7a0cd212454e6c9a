"""What `autointerp mean` prints."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from autointerp.analysis.dictionary_mean import DictionaryMean
from autointerp.analysis.wording import number


def mean_table(found: DictionaryMean) -> Group:
    """Means with intervals, beside what the gold units alone would say."""
    table = Table(
        title=f"mean {found.measure} by {found.gold}, helped by {found.cheap}",
        title_justify="left",
        caption="gain: how many times as many gold units would be needed without the cheap score",
        caption_justify="left",
    )
    for name in ("source", "explainer"):
        table.add_column(name, no_wrap=True)
    for name in ("these units", "units like these", "gold alone", "gold", "correlation", "gain"):
        table.add_column(name, justify="right")
    for row in found.rows:
        gain = row["units_like_these"]["gain"]
        table.add_row(
            row["source"],
            row["explainer"],
            _mean(row["these_units"]),
            _mean(row["units_like_these"]),
            number(row["gold_only"]["mean"]),
            f"{row['n_gold']} of {row['n_gold'] + row['n_cheap_only']}",
            number(row["correlation"]),
            "–" if gain is None else f"{gain:.1f}",
        )
    return Group(table, *(Text(f"Note: {note}") for note in found.notes))


def _mean(found: dict[str, Any]) -> str:
    interval = found["interval"]
    ends = f" [{interval['low']:.2f}, {interval['high']:.2f}]" if interval else ""
    return f"{found['mean']:.2f}{ends}"
