"""The controls of a run as a table: what should score nothing, beside what was scored."""

from typing import Any

from rich.table import Table


def controls_table(found: dict[str, Any]) -> Table | None:
    """Mean of every control, and by how much explanations score above it; `None` without any.

    Args:
        found: of one scorer, from `summarise`.
    """
    groups = [
        (source, explainer, group["other_controls"])
        for source, facts in found["sources"].items()
        for explainer, group in facts["explainers"].items()
        if group["other_controls"]
    ]
    names = list(dict.fromkeys(name for *_, controls in groups for name in controls))
    if not names:
        return None
    table = Table(
        title="controls: mean score, and own score − control with its 95 % interval",
        title_justify="left",
    )
    for name in ("source", "explainer", *names):
        table.add_column(name.replace("_", " "), justify="left" if name in _FIRST else "right")
    for source, explainer, controls in groups:
        table.add_row(source, explainer, *(_cell(controls.get(name)) for name in names))
    return table


_FIRST = ("source", "explainer")


def _cell(control: dict[str, Any] | None) -> str:
    if control is None or control["mean"] is None:
        return "–"
    interval = control["interval"]
    ends = f" [{interval['low']:+.2f}, {interval['high']:+.2f}]" if interval else ""
    return f"{control['mean']:.2f}; {control['difference']:+.2f}{ends}"
