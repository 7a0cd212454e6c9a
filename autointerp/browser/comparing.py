"""The comparison of a run's groups, by the code of `autointerp compare`, and its report."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi.responses import HTMLResponse

from autointerp.analysis.figure import INK
from autointerp.browser.opened import OpenedRun
from autointerp.records import AutointerpError, UsageError
from autointerp.viewer.report import CONCLUSIONS
from autointerp.viewer.svg import inline_svg

WAYS = ("source", "explainer", "layer", "density")

MOST_UNITS = 50_000
"""More are compared on the command line: it takes minutes."""

_STYLE_HASH = re.compile(r"style-src '(sha256-[A-Za-z0-9+/=]{44})'")


@dataclass(frozen=True)
class Asked:
    """Which groups, by which scorer."""

    by: str
    scorer: str


class Comparing:
    """Figures and tables that compare groups of units."""

    def __init__(self, run: OpenedRun) -> None:
        self.run = run
        self._kept: dict[Asked, dict[str, Any]] = {}

    def form(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """What the run itself found, and what else can be compared."""
        by = parameters.get("by", "")
        scorer = parameters.get("scorer", self.run.primary_scorer)
        if by and by not in WAYS:
            raise UsageError(f"by={by[:40]!r}: it is one of {', '.join(WAYS)}")
        if scorer not in self.run.scorers:
            raise UsageError(f"scorer={scorer[:40]!r}: it is one of {', '.join(self.run.scorers)}")
        path = self.run.folder / "comparison.svg"
        figure = None
        if not by and path.exists():
            figure = inline_svg(path.read_text(encoding="utf-8"), INK, "lift of every unit")
        comparisons = [
            {**c, "said": _said(c)}
            for c in self.run.summary.get("comparisons") or []
            if not by and c["scorer"] == scorer
        ]
        return {
            "asked": Asked(by, scorer) if by else None,
            "by": by,
            "scorer": scorer,
            "ways": WAYS,
            "scorers": list(self.run.scorers),
            "figure": figure,
            "groups": self.run.summary["scorers"][scorer]["sources"] if not by else None,
            "summaries": [],
            "comparisons": comparisons,
            "notes": [],
            "problem": "",
        }

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Compare, and draw the figure; works for seconds."""
        if asked not in self._kept:
            try:
                self._kept[asked] = self._compared(asked)
            except AutointerpError as error:
                return {"problem": str(error)}
        return self._kept[asked]

    def _compared(self, asked: Asked) -> dict[str, Any]:
        from autointerp.analysis.compare_figure import draw_groups
        from autointerp.analysis.compare_runs import compare_runs

        n = int(self.run.summary.get("n_units") or 0)
        if n > MOST_UNITS:
            raise AutointerpError(
                f"{n:,} units take minutes to compare: `autointerp compare {self.run.folder} "
                f"--by {asked.by}` does it on the command line"
            )
        found = compare_runs([self.run.folder], by=asked.by, scorers=[asked.scorer])
        with TemporaryDirectory() as folder:
            _, svg = draw_groups(found, Path(folder) / "comparison")
            text = svg.read_text(encoding="utf-8")
        return {
            "figure": inline_svg(text, INK, f"lift of every unit, by {asked.by}"),
            "summaries": list(found.summaries),
            "comparisons": [{**c, "said": _said(c)} for c in found.comparisons],
            "notes": list(found.notes),
        }

    def report(self, *, download: bool) -> HTMLResponse:
        """The run's page as it lies in its folder: one file, with a policy of its own.

        Raises:
            AutointerpError: where the run has none.
        """
        path = self.run.folder / "report.html"
        if not path.exists():
            raise AutointerpError(f"{path} does not exist: run `autointerp run` to its end")
        text = path.read_text(encoding="utf-8")
        # The one style sheet it holds is allowed by its hash, as its own policy says.
        found = _STYLE_HASH.search(text[:20_000])
        style = f"'{found[1]}'" if found else "'none'"
        headers = {
            "content-security-policy": f"default-src 'none'; style-src {style}; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'; sandbox"
        }
        if download:
            name = re.sub(r"[^\w.-]+", "_", self.run.name)[:80] or "run"
            headers["content-disposition"] = f'attachment; filename="report-{name}.html"'
        return HTMLResponse(text, headers=headers)


def _said(comparison: Mapping[str, Any]) -> str:
    text = CONCLUSIONS.get(str(comparison["conclusion"]), "")
    return text.format(a=comparison["source_a"], b=comparison["source_b"])
