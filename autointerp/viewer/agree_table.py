"""What `autointerp agree` prints."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from autointerp.analysis.agree import AgreementReport, ends


def agree_table(found: AgreementReport) -> Group:
    """The matrix of scorers, their pairs with intervals, and people's ratings."""
    parts: list[Any] = [_matrix(found), _reliabilities(found)]
    if found.pairs:
        parts.append(_pairs(found))
    if found.raters:
        parts.append(_raters(found))
    if found.ratings:
        parts.append(_ratings(found))
    parts += [Text(f"Note: {note}") for note in found.notes]
    return Group(*parts)


def _matrix(found: AgreementReport) -> Table:
    table = _table(
        f"{found.measure} of {found.explainer}, {found.n_units} units of "
        f"{', '.join(found.sources)}",
        "diagonal: reliability; above it: Pearson's r over units; below it: r without error "
        "(disattenuated)",
    )
    table.add_column("scorer")
    for one in found.scorers:
        table.add_column(Text(one.name), justify="right")
    raw = {(p.first, p.second): p.pearson for p in found.pairs}
    clean = {(p.second, p.first): p.disattenuated for p in found.pairs}
    for row in found.scorers:
        cells = [
            row.reliability
            if row is column
            else raw.get((row.name, column.name), clean.get((row.name, column.name)))
            for column in found.scorers
        ]
        table.add_row(Text(row.name), *map(_number, cells))
    return table


def _reliabilities(found: AgreementReport) -> Table:
    table = _table("each scorer with itself", "share of the variance over units that is no error")
    for name in ("scorer", "metric", "from"):
        table.add_column(name)
    for name in ("units", "reliability"):
        table.add_column(name, justify="right")
    for one in found.scorers:
        table.add_row(
            Text(one.name),
            Text(one.metric),
            {"halves": "halves of windows", "interval": "its intervals"}.get(one.found_from, "–"),
            str(one.n),
            _with(one.reliability, ends(one.interval)),
        )
    return table


def _pairs(found: AgreementReport) -> Table:
    table = _table("scorers with each other", "95 % intervals; without error: disattenuated")
    table.add_column("pair")
    for name in ("units", "Spearman", "Pearson", "without error"):
        table.add_column(name, justify="right")
    for one in found.pairs:
        table.add_row(
            Text(f"{one.first}, {one.second}"),
            str(one.n),
            _with(one.spearman.value, ends(one.spearman.interval)),
            _with(one.pearson, ends(one.pearson_interval)),
            _with(one.disattenuated, ends(one.disattenuated_interval)),
        )
    return table


def _raters(found: AgreementReport) -> Table:
    table = _table("raters with each other", "Cohen's kappa with quadratic weights")
    for name in ("raters", "scale"):
        table.add_column(name)
    for name in ("units", "kappa"):
        table.add_column(name, justify="right")
    for one in found.raters:
        table.add_row(
            Text(f"{one['a']}, {one['b']}"),
            one["scale"],
            str(one["n"]),
            _with(one["weighted_kappa"], one["interval"]),
        )
    return table


def _ratings(found: AgreementReport) -> Table:
    table = _table("people and scorers", "Spearman's correlation of mean ratings with scores")
    for name in ("scorer", "scale"):
        table.add_column(name)
    for name in ("raters", "units", "Spearman"):
        table.add_column(name, justify="right")
    for one in found.ratings:
        table.add_row(
            Text(one["scorer"]),
            one["scale"],
            str(one["n_raters"]),
            str(one["n"]),
            _with(one["spearman"], one["interval"]),
        )
    return table


def _table(title: str, caption: str) -> Table:
    from rich import box

    return Table(
        title=Text(title),
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE,
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _with(value: float | None, interval: dict[str, Any] | None) -> Text:
    inside = f" [{interval['low']:.2f}, {interval['high']:.2f}]" if interval else ""
    return Text(f"{_number(value)}{inside}")
