"""What the page of a unit is filled with, from its address."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from autointerp.browser.judged import JudgedItems
from autointerp.browser.lists import Lister, ListState
from autointerp.browser.opened import OpenedRun
from autointerp.browser.units import SHOWN_SPLITS, read_unit, unit_page
from autointerp.records import Split, UnitId, UsageError
from autointerp.viewer.tokens import shown_text


def unit_values(
    run: OpenedRun,
    lister: Lister,
    judged: JudgedItems | None,
    unit: UnitId,
    state: ListState,
    parameters: Mapping[str, str],
) -> dict[str, Any]:
    """The page's values.

    Args:
        run: the run.
        lister: of it.
        judged: questions and answers; not shown where `None`.
        unit: which.
        state: of the list that the unit was opened from.
        parameters: of the address: `split`, `items`, `all`.

    Raises:
        UsageError: for a split that is not shown, or a scorer that there is not.
    """
    split = _split(parameters.get("split", ""))
    explainer = run.best_explainer if state.is_recorded else state.explainer
    stored = read_unit(run, unit)
    view = unit_page(run, stored, explainer, split, every_window=bool(parameters.get("all")))
    before, after = lister.around(state, stored.facts.code)
    items = None
    scorer = parameters.get("items", "")
    if scorer and judged is not None:
        if scorer not in view.judged:
            raise UsageError(f"items={scorer[:80]!r}: no judge scored {unit} by that name")
        items = judged.of(stored, explainer, scorer)
    list_query = state.query(run)
    own = {name: parameters[name] for name in ("split", "items", "all") if parameters.get(name)}

    def here(**changes: str) -> str:
        """The address of this page in another state."""
        base = state.query(run, explainer=changes.pop("explainer", state.explainer))
        more = urlencode(own | changes)
        return "?" + "&".join(part for part in (base, more) if part)

    return {
        "view": view,
        "before": before,
        "after": after,
        "items": items,
        "explainer": explainer,
        "splits": SHOWN_SPLITS,
        "list_query": list_query,
        "here": here,
        "token": shown_text,
        "known": lambda one: True,
        "config": str(run.folder / "config.yaml"),
    }


def _split(name: str) -> Split:
    if not name:
        return Split.TEST
    if name not in [str(split) for split in SHOWN_SPLITS]:
        raise UsageError(
            f"split={name[:40]!r}: it is one of {', '.join(SHOWN_SPLITS)}; what is held back for "
            "audits is not shown"
        )
    return Split(name)
