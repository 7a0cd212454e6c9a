"""What `autointerp plan` prints."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from autointerp.analysis.planning import Plan
from autointerp.analysis.wording import number, percent


def plan_table(found: Plan) -> Group:
    """The answer, units for several numbers of windows, and what other sizes could see."""
    each = {"groups": "units in each group", "paired": "units, paired", "mean": "units"}
    needed = Table(title=f"to see {number(found.effect)}", title_justify="left")
    needed.add_column("windows per unit", justify="right")
    needed.add_column(each[found.question], justify="right")
    for windows, units in found.needed:
        needed.add_row(str(windows), "too many" if units is None else f"{units:,}")
    seen = Table(title=f"seen with {percent(found.power)} power", title_justify="left")
    seen.add_column(each[found.question], justify="right")
    seen.add_column("least effect", justify="right")
    for units, effect in found.seen:
        seen.add_row(str(units), number(effect))
    notes = [Text(f"Note: {note}") for note in found.notes]
    return Group(Text(found.sentence), Text(f"From {found.source}."), needed, seen, *notes)
