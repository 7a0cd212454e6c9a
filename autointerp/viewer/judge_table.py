"""The table that `autointerp check-judge` prints."""

from rich.console import Group
from rich.table import Table

from autointerp.analysis.check_judge import JudgeReport, Wins


def judge_table(report: JudgeReport) -> Group:
    """Groups of known answers as rows, and what the judge cost."""
    table = Table(title=f"{report.judge} on known answers", title_justify="left")
    for name in ("units that need", "n", "r true", "r unrelated", "AUC"):
        table.add_column(name, justify="left" if name == "units that need" else "right")
    for name in ("beats unrelated", "beats too broad", "beats too narrow"):
        table.add_column(name, justify="right")
    for group in report.groups:
        table.add_row(
            "any" if group.name == "all" else group.name,
            str(group.n),
            *(_number(n) for n in (group.mean_true, group.mean_unrelated, group.auc)),
            *(_wins(group.against[name]) for name in ("unrelated", "broad", "narrow")),
        )
    notes = (
        "r: pooled Pearson correlation with the truth; a constant prediction counts 0. Shares with "
        "exact 95 % intervals; chance is 0.50.\n"
        f"{report.n_tokens:,} tokens in {report.seconds:.0f} s; {report.missing_share:.1%} of "
        "tokens without a prediction; reversed order changes a level by at most "
        f"{report.order_difference:.3g}."
    )
    return Group(table, notes)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _wins(wins: Wins) -> str:
    if wins.share is None:
        return "–"
    return f"{wins.share:.2f} [{_number(wins.low)}, {_number(wins.high)}]"
