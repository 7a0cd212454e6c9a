"""What `autointerp compare` prints."""

from typing import Any

from rich.console import Group
from rich.table import Table

from autointerp.analysis.compare_runs import Comparison
from autointerp.analysis.wording import number, p_text, percent

MAX_VERDICTS = 12
"""More verdicts are left to comparisons.csv."""


def comparison_table(found: Comparison) -> Group:
    """Groups with their coverage, differences with their tests, and the verdicts in words."""
    parts: list[Any] = [_groups(found), _differences(found), _checks(found)]
    shown = [c for c in found.comparisons if not c["is_baseline"]] or list(found.comparisons)
    for comparison in shown[:MAX_VERDICTS]:
        place = f"[{comparison['within']}] " if comparison["within"] else ""
        parts.append(f"{place}{comparison['verdict']}\n")
    if len(shown) > MAX_VERDICTS:
        parts.append(f"{len(shown) - MAX_VERDICTS} more verdicts are in comparisons.csv.")
    parts += [f"Note: {note}" for note in found.notes]
    return Group(*(_plain(part) for part in parts))


def _plain(part: Any) -> Any:
    """Names come from configs: no text is read as markup."""
    from rich.text import Text

    return Text(part) if isinstance(part, str) else part


def _groups(found: Comparison) -> Table:
    table = _table(
        f"groups by {found.by}",
        "mean over units with a lift, 95 % interval; as zero: with undefined scores as 0",
    )
    several = len({s["scorer"] for s in found.summaries}) > 1
    explained = [] if found.by == "explainer" else ["explainer"]
    for name in (found.by, *explained, *(["scorer"] if several else [])):
        table.add_column(name)
    for name in ("lift", "as zero", "with lift", "median rate"):
        table.add_column(name, justify="right")
    for s in found.summaries:
        group = f"{s['group']} ({s['within']})" if s["within"] else s["group"]
        table.add_row(
            _plain(group),
            *[_plain(s["explainer"]) for _ in explained],
            *([_plain(s["scorer"])] if several else []),
            _plain(_with_interval(s["mean_lift"], s["interval"])),
            number(s["mean_lift_undefined_as_zero"]),
            f"{s['n_with_lift']} of {s['n_selected']}",
            percent(s["median_firing_rate"]),
        )
    return table


def _differences(found: Comparison) -> Table:
    table = _table(
        "difference of mean lift",
        "δ: Cliff's delta, P(a > b) − P(a < b); p: by permutation, adjusted by Benjamini-Hochberg "
        f"over {max((c['n_comparisons'] for c in found.comparisons), default=0)}",
    )
    for name in ("comparison", "under"):
        table.add_column(name)
    for name in ("n", "difference", "δ", "p"):
        table.add_column(name, justify="right")
    for c in found.comparisons:
        main = c["paired"] if c["design"] == "paired" else c["excluded"]
        p_value = c["p_adjusted"]
        table.add_row(
            *_names(c),
            f"{main['n_pairs']} pairs"
            if c["design"] == "paired"
            else f"{main['n_a']}+{main['n_b']}",
            _plain(_with_interval(main["difference"], main["interval"])),
            number(c["excluded"]["cliffs_delta"]),
            "–" if p_value is None else p_text(p_value).removeprefix("p = ").removeprefix("p "),
        )
    return table


def _checks(found: Comparison) -> Table:
    table = _table(
        "the same difference, counted otherwise",
        "as zero: with undefined scores as 0; matched: on firing rate; support: share of either "
        "group that has a match",
    )
    for name in ("comparison", "under"):
        table.add_column(name)
    for name in ("as zero", "matched", "support"):
        table.add_column(name, justify="right")
    for c in found.comparisons:
        paired = c["design"] == "paired"
        zero = c["paired"]["as_zero"] if paired else c["as_zero"]
        matched = c["rate_matched"]
        support = f"{percent(matched['share_a'])}, {percent(matched['share_b'])}"
        table.add_row(
            *_names(c),
            _plain(_with_interval(zero["difference"], zero["interval"])),
            "same units" if paired else _plain(_matched(matched)),
            "" if paired or found.by == "density" else support,
        )
    return table


def _names(c: dict[str, Any]) -> tuple[Any, Any]:
    parts = [c["explainer"], "" if c["scorer"] == "simulation" else c["scorer"], c["within"]]
    under = " · ".join(part for part in parts if part)
    return _plain(f"{c['source_a']} − {c['source_b']}"), _plain(under)


def _table(title: str, caption: str) -> Table:
    from rich import box

    return Table(
        title=title, title_justify="left", caption=caption, caption_justify="left", box=box.SIMPLE
    )


def _matched(matched: dict[str, Any]) -> str:
    if not matched["has_support"]:
        return "too few"
    return _with_interval(matched["difference"], matched["interval"])


def _with_interval(value: float | None, interval: dict[str, Any] | None) -> str:
    if interval is None:
        return number(value)
    return f"{number(value)} [{number(interval['low'])}, {number(interval['high'])}]"
