"""Rating blind: units of several sources shuffled, their source hidden, the rubric beside them.

Items are drawn and ratings kept by `analysis.ratings`, as by `autointerp ratings`: they end in the
run's `ratings.jsonl`, and `agree` reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autointerp.analysis.ratings import (
    RUBRIC,
    Drawn,
    draw_items,
    keep_items,
    keep_ratings,
    rated_windows,
    read_ratings,
)
from autointerp.analysis.ratings import (
    Rating as KeptRating,
)
from autointerp.browser.opened import OpenedRun
from autointerp.browser.strips import strip_of
from autointerp.records import UsageError
from autointerp.viewer.tokens import shown_text

MOST_ITEMS = 500
MOST_UNITS_OF_RUN = 200_000
"""Items are drawn from all rows of a run: those of a larger one do not fit into memory."""


@dataclass(frozen=True)
class Deck:
    """Which items somebody rates, in which order; all of it is in the address."""

    rater: str
    n: int
    seed: int
    explainer: str
    place: int
    """Number of the item, from 1."""

    def query(self, place: int) -> dict[str, str]:
        """The address of another item."""
        found = {"rater": self.rater, "n": str(self.n), "seed": str(self.seed)}
        if self.explainer:
            found["explainer"] = self.explainer
        return found | {"item": str(place)}


class Rating:
    """Items of one run to rate."""

    def __init__(self, run: OpenedRun) -> None:
        self.run = run
        self._decks: dict[tuple[int, int, str], list[Drawn]] = {}
        self._texts: OpenedRun | None = None

    # ------------------------------------------------------------------ in the loop

    def form(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """The form by which somebody begins; `asked` is the deck where one is asked for."""
        rater = parameters.get("rater", "").strip()
        deck = _deck(parameters) if rater else None
        return {
            "asked": deck,
            "deck": deck,
            "rater": rater,
            "n": parameters.get("n", "20"),
            "seed": parameters.get("seed", "0"),
            "explainer": parameters.get("explainer", ""),
            "explainers": [e for e in self.run.explainers if e not in self.run.baselines],
            "rubric": RUBRIC,
            "shown": None,
            "given": None,
            "n_items": 0,
            "n_rated": 0,
        }

    # ------------------------------------------------------------------ in the worker

    def _drawn(self, deck: Deck) -> list[Drawn]:
        key = (deck.n, deck.seed, deck.explainer)
        if key not in self._decks:
            n = int(self.run.summary.get("n_units") or 0)
            if n > MOST_UNITS_OF_RUN:
                raise UsageError(
                    f"this run has {n:,} explained units, too many to draw from here: "
                    "`autointerp ratings export` writes a file of items"
                )
            drawn = draw_items(
                self.run.folder, n_units=deck.n, explainer=deck.explainer or None, seed=deck.seed
            )
            keep_items(self.run.folder, drawn)
            self._decks[key] = drawn
        return self._decks[key]

    def item(self, deck: Deck) -> dict[str, Any]:
        """One item, without anything that says which unit it is of."""
        drawn = self._drawn(deck)
        rated = {r.item: r for r in read_ratings(self.run.folder) if r.rater == deck.rater}
        counts = {"n_items": len(drawn), "n_rated": sum(one.item in rated for one in drawn)}
        if deck.place > len(drawn):
            return counts
        one = drawn[deck.place - 1]
        strong, spread, silent = rated_windows(one.record, deck.seed)
        maximum = one.record.explain_maximum()
        texts = self._sequences()
        groups = [
            (name, [strip_of(texts, w, None, maximum, None).html for w in windows])
            for name, windows in (("strongest", strong), ("weaker", spread), ("silent", silent))
        ]
        return counts | {
            "shown": {
                "item": one.item,
                "explanation": one.row.explanation,
                "groups": groups,
                "maximum": maximum,
                "negative": one.record.unit.polarity < 0,
                "promoted": [shown_text(t.token) for t in (one.record.promoted or ())[:10]],
            },
            "given": rated.get(one.item),
        }

    def _sequences(self) -> Any:
        if self._texts is None:
            from autointerp.progress import Silent

            self._texts = OpenedRun(self.run.folder, Silent())
        return self._texts.sequences

    def keep(self, fields: Mapping[str, str]) -> dict[str, str]:
        """Keep one rating; returns the address of the next item.

        Raises:
            UsageError: where nothing was filled in, or wrongly.
        """
        deck = _deck(fields)
        drawn = self._drawn(deck)
        if deck.place > len(drawn) or fields.get("name") != drawn[deck.place - 1].item:
            raise UsageError("this item is not of these: begin again")
        grades = {name: fields.get(name, "") for name in RUBRIC}
        if not any(value.strip() for value in grades.values()):
            raise UsageError("nothing was rated: choose at least one grade, or skip the item")
        row = {"item": drawn[deck.place - 1].item, "rater": deck.rater,
               "comment": fields.get("comment", "")[:2000], **grades}  # fmt: skip
        keep_ratings(self.run.folder, "the form", [(1, row)], replace=True)
        return deck.query(deck.place + 1)

    def agreement(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """How people's ratings agree with each other and with the automatic scores."""
        from autointerp.analysis.agree import agree
        from autointerp.halves import open_halves

        ratings: list[KeptRating] = read_ratings(self.run.folder)
        if not ratings:
            return {"report": None, "n_ratings": 0, "measure": "score"}
        measure: Any = parameters.get("of", "score")
        with open_halves(self.run.folder) as halves:
            report = agree(
                self.run.folder,
                explainer=parameters.get("explainer") or _most_rated(ratings),
                measure=measure,
                half_scores=halves,
            )
        return {"report": report.as_json(), "n_ratings": len(ratings), "measure": measure}


def _most_rated(ratings: list[KeptRating]) -> str:
    names = [rating.explainer for rating in ratings]
    return max(dict.fromkeys(names), key=names.count)


def _deck(fields: Mapping[str, str]) -> Deck:
    rater = fields.get("rater", "").strip()
    if not rater or len(rater) > 200:
        raise UsageError("say who rates: a name of 1 to 200 characters")
    return Deck(
        rater,
        _whole(fields, "n", 20, 1, MOST_ITEMS),
        _whole(fields, "seed", 0, 0, 2**31 - 1),
        fields.get("explainer", ""),
        _whole(fields, "item", 1, 1, MOST_ITEMS + 1),
    )


def _whole(fields: Mapping[str, str], name: str, usual: int, low: int, high: int) -> int:
    text = fields.get(name, "").strip() or str(usual)
    if not (text.isascii() and text.isdigit() and low <= int(text[:12]) <= high):
        raise UsageError(f"{name}={text[:40]!r}: a whole number from {low} to {high:,}")
    return int(text)
