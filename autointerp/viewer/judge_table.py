"""The table that `autointerp check-judge` prints."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from autointerp.analysis.check_judge import JudgeGroup, JudgeReport, Wins
from autointerp.analysis.check_llm import LlmJudgeReport
from autointerp.records import UsageError


def judge_table(report: JudgeReport) -> Group:
    """Groups of known answers as rows, and what the judge cost."""
    table = _groups_table(report.judge, report.groups, "r")
    notes = (
        "r: pooled Pearson correlation with the truth; a constant prediction counts 0. Shares with "
        "exact 95 % intervals; chance is 0.50.\n"
        f"{report.n_tokens:,} tokens in {report.seconds:.0f} s; {report.missing_share:.1%} of "
        "tokens without a prediction; reversed order changes a level by at most "
        f"{report.order_difference:.3g}."
    )
    return Group(table, notes)


def llm_judge_table(report: LlmJudgeReport) -> Group:
    """As `judge_table`, of a language model as a judge by detection."""
    table = _groups_table(f"{report.judge} as a judge by {report.scorer}", report.groups, "J")
    price = "unknown" if report.usd is None else f"${report.usd:.4f}"
    notes = (
        "J: share of active windows answered yes less that of silent ones. Shares with exact 95 % "
        "intervals; chance is 0.50.\n"
        f"agrees with an oracle in {_percent(report.oracle_agreement)} of answers (kappa "
        f"{_number(report.oracle_kappa)}); reversed order changes "
        f"{_percent(report.order_changed)} of answers; {report.malformed_share:.1%} of first "
        f"answers malformed, {report.missing_share:.1%} of windows without an answer.\n"
        f"{report.n_requests:,} requests, {report.input_tokens:,} tokens in, "
        f"{report.output_tokens:,} out, {report.seconds:.0f} s, price {price}."
        + (
            f"\nnot asked about, being active in every window: {', '.join(report.not_asked)}."
            if report.not_asked
            else ""
        )
    )
    return Group(table, notes)


def _groups_table(judge: str, groups: Sequence[JudgeGroup], score: str) -> Table:
    table = Table(title=Text(f"{judge} on known answers"), title_justify="left")
    for name in ("units that need", "n", f"{score} true", f"{score} unrelated", "AUC"):
        table.add_column(name, justify="left" if name == "units that need" else "right")
    for name in ("beats unrelated", "beats too broad", "beats too narrow"):
        table.add_column(name, justify="right")
    for group in groups:
        table.add_row(
            "any" if group.name == "all" else group.name,
            str(group.n),
            *(_number(n) for n in (group.mean_true, group.mean_unrelated, group.auc)),
            *(_wins(group.against[name]) for name in ("unrelated", "broad", "narrow")),
        )
    return table


def comparison_table(reports: Sequence[Mapping[str, Any]]) -> Table:
    """Judges side by side, the best first.

    Args:
        reports: what `check-judge --json` printed, each with the `file` it came from.
    """
    table = Table(title="judges on known answers", title_justify="left")
    table.add_column("judge")
    for name in ("margin", "AUC", "beats unrelated", "beats too broad", "beats too narrow"):
        table.add_column(name, justify="right")
    for name in ("missing", "seconds"):
        table.add_column(name, justify="right")
    for report in sorted(reports, key=lambda r: -(r["groups"][0]["margin"] or 0.0)):
        whole = report["groups"][0]
        table.add_row(
            f"{report['judge']} ({report['file']})",
            _number(whole["margin"]),
            _number(whole["auc"]),
            *(_wins(Wins(**whole["against"][n])) for n in ("unrelated", "broad", "narrow")),
            f"{report['missing_share']:.1%}",
            f"{report['seconds']:.0f}",
        )
    return table


def read_reports(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Reports that `check-judge --json` printed into files.

    Raises:
        UsageError: naming a file that is none.
    """
    found: list[dict[str, Any]] = []
    for file in files:
        try:
            report = json.loads(file.read_text(encoding="utf-8"))
            _ = report["judge"], report["missing_share"], report["seconds"]
            whole = report["groups"][0]
            _ = whole["margin"], whole["auc"]
            for name in ("unrelated", "broad", "narrow"):
                Wins(**whole["against"][name])
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise UsageError(
                f"{str(file)!r} is no report of a judge ({error!r}): make one with autointerp "
                "check-judge --json > FILE"
            ) from error
        found.append({**report, "file": file.name})
    return found


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _wins(wins: Wins) -> str:
    if wins.share is None:
        return "–"
    return f"{wins.share:.2f} [{_number(wins.low)}, {_number(wins.high)}]"
