"""What is seen of a training while it runs: a CSV file, a page with curves, and warnings."""

import csv
import html
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from autointerp.units.sae.fitting import Progress

COLUMNS = ("loss", "explained_variance", "l0", "dead_share", "tokens_per_second")
PAGE_SECONDS = 60.0
"""The page is written anew when it is older than this."""

DEAD_SHARE = 0.1
"""First warning when more latents than this are dead, then each time their share has doubled."""

RISE = 1.5
"""Warning when the loss is this many times the lowest so far, twice in a row."""


@dataclass
class _Seen:
    """What the warnings of one dictionary rest on."""

    lowest: float = math.inf
    n_high: int = 0
    dead_limit: float = DEAD_SHARE
    said: set[str] = field(default_factory=set[str])


class Warnings:
    """Early signs that a dictionary will be of no use."""

    def __init__(self, warmup_tokens: int) -> None:
        """No word on loss and variance before `warmup_tokens`."""
        self._warmup = warmup_tokens
        self._seen: dict[str, _Seen] = {}

    def of(self, now: Progress) -> list[str]:
        """What there is to say about a dictionary now that was not said before."""
        seen = self._seen.setdefault(now.name, _Seen())
        found: list[str] = []
        if now.dead_share > seen.dead_limit:
            found.append(
                f"{now.dead_share:.0%} of its latents are dead at {now.n_tokens:,} tokens: lower "
                "`learning_rate` or `n_latents`, or raise `aux_k` (`relu_l1`: give `resample_at`)"
            )
            seen.dead_limit = 2 * now.dead_share
        if now.n_tokens <= self._warmup:
            return found
        seen.lowest = min(seen.lowest, now.loss)
        seen.n_high = seen.n_high + 1 if now.loss > RISE * seen.lowest else 0
        if seen.n_high == 2 and "loss" not in seen.said:
            seen.said.add("loss")
            found.append(
                f"its loss is {now.loss:.4g} at {now.n_tokens:,} tokens and was {seen.lowest:.4g}: "
                "lower `learning_rate`"
            )
        if now.explained_variance < 0 and "variance" not in seen.said:
            seen.said.add("variance")
            found.append(
                f"it explains less than the mean does (explained variance "
                f"{now.explained_variance:.2f} at {now.n_tokens:,} tokens): lower `learning_rate`, "
                "or the weight of the penalty"
            )
        if now.l0 < 0.5 and "l0" not in seen.said:
            seen.said.add("l0")
            found.append(
                f"{now.l0:.2f} latents are active per token at {now.n_tokens:,} tokens: lower the "
                "weight of the penalty"
            )
        return found


class TrainingLog:
    """Takes in the progress of every dictionary; a continued training continues its files."""

    def __init__(
        self, folder: Path, warmup_tokens: int, warn: Callable[[str], None] | None = None
    ) -> None:
        """Write `metrics.csv` and `progress.html` in `folder`; say warnings by `warn`."""
        self._csv = folder / "metrics.csv"
        self._page = folder / "progress.html"
        self._warn = warn
        self._warnings = Warnings(warmup_tokens)
        self._rows: list[Progress] = _read(self._csv)
        self._parts = sorted({part for row in self._rows for part in row.parts})
        self._paged = -math.inf
        self._is_mine = False

    def add(self, now: Progress) -> None:
        """Take in one dictionary's progress."""
        # After a kill the steps since the last checkpoint come again.
        kept = [r for r in self._rows if r.name != now.name or r.n_tokens < now.n_tokens]
        parts = sorted({*self._parts, *now.parts})
        is_new = self._is_mine and len(kept) == len(self._rows) and parts == self._parts
        self._rows, self._parts = [*kept, now], parts
        if is_new:
            with self._csv.open("a", encoding="utf-8") as opened:
                opened.write(self._lines([now]))
        else:
            header = ["dictionary", "n_tokens", *COLUMNS, *parts]
            partial = self._csv.with_suffix(".partial")
            text = ",".join(header) + "\n" + self._lines(self._rows)
            partial.write_text(text, encoding="utf-8")
            partial.replace(self._csv)
            self._is_mine = True
        for text in self._warnings.of(now) if self._warn else ():
            assert self._warn is not None
            self._warn(f"{now.name}: {text}")
        if time.monotonic() - self._paged > PAGE_SECONDS:
            self.write_page()

    def write_page(self) -> None:
        """Write the page as of now."""
        partial = self._page.with_suffix(".partial")
        partial.write_text(page(self._rows), encoding="utf-8")
        partial.replace(self._page)
        self._paged = time.monotonic()

    def _lines(self, rows: list[Progress]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in rows:
            values = [getattr(row, name) for name in COLUMNS]
            values += [row.parts.get(part, "") for part in self._parts]
            numbers = (v if v == "" else f"{v:.6g}" for v in values)
            writer.writerow([row.name, row.n_tokens, *numbers])
        return text.getvalue()


def _read(path: Path) -> list[Progress]:
    """The rows that a training before this one wrote; a line cut off by a kill is left out."""
    if not path.exists():
        return []
    rows: list[Progress] = []
    with path.open(encoding="utf-8", newline="") as opened:
        for row in csv.DictReader(opened):
            try:
                values = [float(row[name]) for name in COLUMNS]
                name, n_tokens = row["dictionary"], int(row["n_tokens"])
                known = {"dictionary", "n_tokens", *COLUMNS}
                parts = {k: float(v) for k, v in row.items() if k not in known and v}
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            rows.append(Progress(name, n_tokens, *values, parts=parts))
    return rows


_TITLES = {
    "loss": "loss",
    "explained_variance": "explained variance",
    "l0": "active latents per token",
    "dead_share": "share of dead latents",
}


def page(rows: list[Progress]) -> str:
    """A page with one figure and the last numbers; a browser reads it again every minute."""
    names = list(dict.fromkeys(row.name for row in rows))
    table = "".join(
        f"<tr><td>{html.escape(last.name)}</td><td>{last.n_tokens:,}</td><td>{last.loss:.4g}</td>"
        f"<td>{last.explained_variance:.4f}</td><td>{last.l0:.1f}</td>"
        f"<td>{last.dead_share:.1%}</td><td>{last.tokens_per_second:,.0f}</td></tr>"
        for last in ([row for row in rows if row.name == name][-1] for name in names)
    )
    head = "".join(
        f"<th>{title}</th>"
        for title in ("dictionary", "tokens", *_TITLES.values(), "tokens per second")
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta http-equiv="refresh" content="60"><title>training</title>'
        "<style>body{font:15px system-ui;margin:2rem;max-width:70rem}td,th{padding:.2rem .8rem;"
        "text-align:right}td:first-child{text-align:left}svg{max-width:100%;height:auto}</style>"
        f"<h1>Training of dictionaries</h1><table><tr>{head}</tr>{table}</table>{_curves(rows)}"
        "</html>\n"
    )


def _curves(rows: list[Progress]) -> str:
    """One SVG: a panel per number, a line per dictionary."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, 2)
    for axes, (column, title) in zip(panels.flat, _TITLES.items(), strict=True):
        for name in dict.fromkeys(row.name for row in rows):
            mine = [row for row in rows if row.name == name]
            tokens = [row.n_tokens / 1e6 for row in mine]
            axes.plot(tokens, [getattr(row, column) for row in mine], label=name)
        axes.set_title(title)
        axes.set_xlabel("million tokens")
    if rows:
        panels[0, 0].legend()
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    text = drawn.getvalue()
    return text[text.index("<svg") :]
