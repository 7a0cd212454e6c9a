"""Recomputes what a run's folder claims, without a model: nothing is asked, nothing is changed.

Three things are checked. **Scores**: every score is computed again from the stored activations and
the stored simulations (or the kept answers of a judge) and compared number by number. **Tables**:
`explanations.jsonl`, `scores.csv` and `summary.json` are made again from these scores. **Links**:
every key is the hash of what it was made from, so the keys of the corpus, records, explanations and
scores are hashed again from the facts in `provenance.json`.

    model, corpus, dictionary, design ─► records ─► explanation ─┐
                        donors' explanations, simulator, scorer ─┴► score
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from autointerp.records import AutointerpError, Score, UnitId, UnitRecord
from autointerp.stored_choices import choice_differences
from autointerp.stored_run import CannotRecomputeError, StoredRun, from_store
from autointerp.stored_tables import make_again

__all__ = [
    "CannotRecomputeError",
    "Difference",
    "StoredRun",
    "Verification",
    "from_store",
    "verify_run",
]

TOLERANCE = 1e-9
"""Numbers are compared exactly; what is less than this apart is reported, but is no difference:
another machine may add in another order."""


@dataclass(frozen=True)
class Difference:
    """Something that is not as the folder says."""

    unit: str
    explainer: str
    scorer: str
    field: str
    """Which number or fact, such as `value` or `lift_interval.low`."""
    stored: Any
    found: Any
    size: float | None
    """|stored − found|; `None` where they are no numbers."""
    file: str = "results.sqlite"
    """Where it is stored."""


@dataclass
class Verification:
    """What came of checking a run."""

    run: str
    n_recomputed: int = 0
    n_table_rows: int = 0
    """Rows of `explanations.jsonl`, which were made again."""
    n_published: int = 0
    """Scores with a number in `explanations.jsonl`."""
    n_choices: int = 0
    """Explanations chosen among several whose choice was made again."""
    n_differing: int = 0
    """Scores with a difference."""
    max_difference: float = 0.0
    """Largest |stored − found| of all numbers, those within the tolerance too."""
    differences: list[Difference] = field(default_factory=list[Difference])
    broken_links: list[str] = field(default_factory=list[str])
    """Keys that are not the hash of what they should be made from, in words."""
    not_recomputed: Counter[str] = field(default_factory=Counter[str])
    """Why → scores that could not be computed again."""

    @property
    def is_exact(self) -> bool:
        """Whether everything that could be computed again is as stored, and anything could be."""
        return not (self.differences or self.broken_links or self.is_unknown)

    @property
    def is_unknown(self) -> bool:
        """Whether numbers are published of which none could be computed again."""
        return self.n_published > 0 and not self.n_recomputed

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        found = asdict(self)
        return found | {"not_recomputed": dict(self.not_recomputed), "is_exact": self.is_exact}


def verify_run(folder: str | Path, tolerance: float = TOLERANCE) -> Verification:
    """Recompute all scores of a run from what is stored, and hash its keys again.

    Args:
        folder: of a finished run.
        tolerance: differences up to this are none.

    Raises:
        AutointerpError: where the folder holds no finished run, or its files cannot be read.
    """
    stored = StoredRun(folder)
    try:
        found = Verification(stored.config.name, broken_links=stored.broken_links())
        recomputed: dict[str, Score] = {}
        for unit, scores in _by_unit(stored.store.scores()):
            record: UnitRecord | None = None
            for score in scores:
                try:
                    if record is None:
                        record = stored.record(unit)
                    again = stored.recompute(score, record)
                except (CannotRecomputeError, AutointerpError) as why:
                    found.not_recomputed[str(why)] += 1
                    continue
                recomputed[score.key] = again
                _compare(found, score, again, tolerance)
        _choose_again(found, stored)
        _make_tables_again(found, stored, recomputed, tolerance)
        return found
    finally:
        stored.store.close()


def _choose_again(found: Verification, stored: StoredRun) -> None:
    """Make every choice among explanations again that a score rests on."""
    keys = {s.explanation_key for s in stored.store.scores() if s.explainer in stored.choosers}
    for key in sorted(keys):
        explanation = stored.store.get_explanation(key)
        if explanation is None or stored.explanation_link(explanation) is None:
            continue  # told with its scores
        chooser = stored.choosers[explanation.explainer]
        try:
            changed = list(choice_differences(stored, explanation, chooser))
        except (CannotRecomputeError, AutointerpError) as why:
            found.not_recomputed[f"choices {why}"] += 1
            continue
        found.n_choices += 1
        found.differences += [
            Difference(
                str(explanation.unit), chooser.name, "choice", name, old, new, _distance(old, new)
            )
            for name, old, new in changed
        ]


def _make_tables_again(
    found: Verification, stored: StoredRun, recomputed: Mapping[str, Score], tolerance: float
) -> None:
    """Compare what is published with what the scores give."""
    try:
        made = make_again(stored, recomputed)
    except (CannotRecomputeError, AutointerpError) as why:
        if str(why) not in found.not_recomputed:  # else told with the scores that it keeps back
            found.broken_links.append(f"the tables cannot be made again: {why}")
        return
    found.n_table_rows, found.n_published = made.n_rows, made.n_scores
    again = f"`autointerp run {stored.store.folder / 'config.yaml'}` writes it anew"
    found.broken_links += [f"{name} is missing: {again}" for name in made.missing]
    for one in made.mismatches:
        size = _distance(one.stored, one.found)
        if size is not None:
            found.max_difference = max(found.max_difference, size)
            if size <= tolerance:
                continue
        unit, explainer, scorer, *_ = (*one.place, "", "", "")
        values = one.stored, one.found, size
        found.differences.append(Difference(unit, explainer, scorer, one.field, *values, one.file))


def _compare(found: Verification, score: Score, again: Score, tolerance: float) -> None:
    found.n_recomputed += 1
    old, new = _flat(asdict(score)), _flat(asdict(again))
    rows: list[Difference] = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        size = _distance(a, b)
        if size is not None:
            found.max_difference = max(found.max_difference, size)
        if a != b and (size is None or size > tolerance):
            rows.append(
                Difference(str(score.unit), score.explainer, score.scorer, name, a, b, size)
            )
    found.differences += rows
    found.n_differing += bool(rows)


def _distance(a: Any, b: Any) -> float | None:
    numbers = (int, float)
    if isinstance(a, bool) or isinstance(b, bool):
        return None
    if not isinstance(a, numbers) or not isinstance(b, numbers):
        return None
    size = abs(a - b)
    return size if math.isfinite(size) else None


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` → `{"a.b": 1}`; whatever JSON would make of a value."""
    if isinstance(value, Mapping):
        items = [(str(k), v) for k, v in cast("Mapping[Any, Any]", value).items()]
    elif isinstance(value, list | tuple):
        items = [(str(i), v) for i, v in enumerate(cast("Sequence[Any]", value))]
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, part in items:
        found |= _flat(part, f"{name}.{key}" if name else key)
    return found


def _by_unit(scores: Iterator[Score]) -> Iterator[tuple[UnitId, list[Score]]]:
    group: list[Score] = []
    for score in scores:
        if group and group[0].unit != score.unit:
            yield group[0].unit, group
            group = []
        group.append(score)
    if group:
        yield group[0].unit, group
