"""The table that `autointerp audit` prints."""

from typing import Any

from rich.table import Table


def audit_table(found: dict[str, Any]) -> Table:
    """Selected and other units, on `test` and on `audit`."""
    table = Table(
        title=f"the best {found['top']:.0%} of units by lift on test, scored again on audit",
        title_justify="left",
        caption="means over units with a number on both splits; fallen by: test − audit, 95 % "
        "interval. What falls in the others too is the splits' doing, the rest is selection.",
        caption_justify="left",
    )
    for name in ("source", "explainer", "units"):
        table.add_column(name)
    for name in ("n", "lift test", "lift audit", "fallen by", "score fallen by"):
        table.add_column(name, justify="right")
    for group in found["groups"]:
        for name in ("selected", "reference"):
            part = group[name]
            if part["n"]:
                lift = part["lift"]
                table.add_row(
                    group["source"],
                    group["explainer"],
                    "selected" if name == "selected" else "others",
                    f"{lift['n']} of {part['n']}",
                    _number(lift["test"]),
                    _number(lift["audit"]),
                    _fallen(lift),
                    _fallen(part["score"]),
                )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _fallen(part: dict[str, Any]) -> str:
    if part["fallen_by"] is None:
        return "–"
    ends = part["interval"]
    inside = f" [{ends['low']:+.2f}, {ends['high']:+.2f}]" if ends else ""
    return f"{part['fallen_by']:+.3f}{inside}"
