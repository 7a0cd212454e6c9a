"""People's ratings of explanations, given blind: written out, read back, kept in the run.

A file for raters shows, item by item, an explanation and texts of the unit's `test` windows, and
neither the unit nor its source: which item is which stays in the run, in `ratings/KEY.json`. Two
rubrics are asked for: that of Bricken et al. 2023 (human analysis), four parts that make 0 to 14,
and a simple one of 0 to 3. Ratings are kept in `ratings.jsonl` with their rater.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autointerp.analysis.loaded import ExplanationRow, LoadedRun, load_run
from autointerp.records import (
    ActivationRecord,
    AutointerpError,
    Split,
    Status,
    Strata,
    UnitId,
    UnitRecord,
    UsageError,
    content_key,
    derived_seed,
)

RUBRIC: Mapping[str, tuple[int, str]] = {
    "confidence": (3, "how sure you are that there is an explanation at all, and that it is this"),
    "consistency": (5, "do the marked tokens fit the explanation, from strongest to weakest text"),
    "outputs": (3, "do the promoted tokens fit the explanation"),
    "specificity": (3, "is it about what is marked, and not about much that is not marked"),
    "simple": (3, "0: wrong; 1: partly right; 2: mostly right; 3: right"),
}
"""Column → largest rating, and what is asked. The first four make the rubric of 0 to 14."""

TOTAL_PARTS = ("confidence", "consistency", "outputs", "specificity")

SCALES: Mapping[str, int] = {"total": 14, "simple": 3}
"""Numbers that a rating gives, and the largest value of each."""

FILE = "ratings.jsonl"
"""Where a run keeps its ratings."""

N_STRONG, N_SPREAD, N_SILENT = 3, 5, 3
"""Texts shown of an item: the most active, others over the range, silent ones."""

MAX_BYTES = 50_000_000
_MAX_TEXT = 2000


@dataclass(frozen=True)
class Rating:
    """What one person made of one explanation."""

    unit: str
    explainer: str
    explanation_key: str
    """Of the words that were rated: if a unit has other words now, nobody rated those."""

    rater: str
    item: str
    confidence: int | None
    consistency: int | None
    outputs: int | None
    specificity: int | None
    simple: int | None
    comment: str = ""

    @property
    def total(self) -> int | None:
        """0 to 14; `None` where a part is missing."""
        parts = [getattr(self, name) for name in TOTAL_PARTS]
        return None if None in parts else sum(parts)


def export_ratings(
    folder: str | Path,
    output: str | Path,
    *,
    n_units: int,
    explainer: str | None = None,
    sources: Sequence[str] = (),
    seed: int = 0,
) -> int:
    """Write a file for raters: units of all sources, shuffled, their source hidden.

    Args:
        folder: of a finished run.
        output: `.csv` for a spreadsheet, or `.jsonl`.
        n_units: units that are shown, equally many of every source as far as there are.
        explainer: whose explanations; the best one with words by the headline if left out.
        sources: of which units; all if left out.
        seed: of the choice and the order.

    Returns:
        How many items were written: fewer than `n_units` where there are no more.

    Raises:
        UsageError: for a name that the run does not have, or another kind of file.
        AutointerpError: where nothing can be rated, or the file exists.
    """
    from autointerp.store import write_text

    place = Path(output)
    if place.suffix not in (".csv", ".jsonl"):
        raise UsageError(f"{str(place)!r}: ratings are written to a .csv or a .jsonl file")
    if place.exists():
        raise AutointerpError(f"{place} exists, and may hold ratings: give another file")
    if n_units < 1:
        raise UsageError(f"--units {n_units}: give at least 1")
    drawn = draw_items(folder, n_units=n_units, explainer=explainer, sources=sources, seed=seed)
    shown = [{"item": one.item, **_shown(one.row, one.record, seed)} for one in drawn]
    keep_items(folder, drawn)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_text(place, _as_csv(shown) if place.suffix == ".csv" else _as_jsonl(shown))
    return len(shown)


@dataclass(frozen=True)
class Drawn:
    """One item to rate."""

    item: str
    """Its name, which says nothing of the unit."""

    row: ExplanationRow
    record: UnitRecord


def draw_items(
    folder: str | Path,
    *,
    n_units: int,
    explainer: str | None = None,
    sources: Sequence[str] = (),
    seed: int = 0,
) -> list[Drawn]:
    """Units of all sources in a random order, each with an explanation to rate.

    Args: as `export_ratings`.

    Raises:
        UsageError: for a name that the run does not have.
        AutointerpError: where nothing can be rated.
    """
    from autointerp.store import RunStore

    run = load_run(folder)
    chosen = _chosen(run, _explainer(run, explainer), _sources(run, sources), n_units, seed)
    store = RunStore(folder)
    try:
        records = {r.unit: r for r in store.read_units([UnitId.parse(row.unit) for row in chosen])}
    finally:
        store.close()
    return [
        Drawn(
            content_key("rating item", unit=row.unit, explanation=row.explanation_key, seed=seed)[
                :12
            ],
            row,
            records[UnitId.parse(row.unit)],
        )
        for row in chosen
    ]


def keep_items(folder: str | Path, drawn: Sequence[Drawn]) -> None:
    """Keep in the run which item is which, so that their ratings can be taken back.

    Raises:
        AutointerpError: where another process holds the run.
    """
    from autointerp.store import RunStore

    key = {
        one.item: {
            "unit": one.row.unit,
            "explainer": one.row.explainer,
            "explanation_key": one.row.explanation_key or "",
        }
        for one in drawn
    }
    with RunStore(folder).lock():
        _keep_key(Path(folder), key)


def import_ratings(
    folder: str | Path, file: str | Path, *, rater: str | None = None, replace: bool = False
) -> dict[str, int]:
    """Check a rated file and keep its ratings in the run.

    Args:
        folder: the run that the file was written from.
        file: `.csv` or `.jsonl`; items without any rating are passed over.
        rater: who rated, where the file's `rater` is empty.
        replace: take new ratings of items that the same person has rated otherwise.

    Returns:
        `rated`, `unrated`, `known` (rated the same before), `replaced`.

    Raises:
        UsageError: naming the line that cannot be used. Nothing is kept then.
    """
    _ = _read_key(Path(folder))  # a run that gave out nothing is told so first
    counts = keep_ratings(folder, str(file), _rows(Path(file)), rater=rater, replace=replace)
    if not sum(n for name, n in counts.items() if name != "unrated"):
        raise UsageError(f"{file} holds no rating: fill in {', '.join(RUBRIC)}")
    return counts


def keep_ratings(
    folder: str | Path,
    file: str,
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    *,
    rater: str | None = None,
    replace: bool = False,
) -> dict[str, int]:
    """Check rated items and keep their ratings in the run.

    Args:
        folder: the run.
        file: where they come from, for what is said of errors.
        rows: (line, columns of `RUBRIC`, `item`, `rater`, `comment`); those without any rating are
            passed over.
        rater: who rated, where `rater` is empty.
        replace: take new ratings of items that the same person has rated otherwise.

    Returns:
        As `import_ratings`.

    Raises:
        UsageError: naming the line that cannot be used. Nothing is kept then.
    """
    from autointerp.store import RunStore, write_text

    items = _read_key(Path(folder))
    old = {(one.item, one.rater): one for one in read_ratings(folder)}
    counts = {"rated": 0, "unrated": 0, "known": 0, "replaced": 0}
    new: dict[tuple[str, str], Rating] = {}
    for number, row in rows:
        rating = _rating(f"{file}, line {number}", row, items, rater)
        if rating is None:
            counts["unrated"] += 1
            continue
        name = (rating.item, rating.rater)
        if name in new:
            raise UsageError(f"{file}, line {number}: {rating.rater} rated this item already")
        before = old.get(name)
        if before == rating:
            counts["known"] += 1
        elif before is not None and not replace:
            raise UsageError(
                f"{file}, line {number}: {rating.rater} rated item {rating.item} otherwise before; "
                "--replace takes the new ratings"
            )
        counts["replaced"] += before is not None and before != rating
        counts["rated"] += before is None
        new[name] = rating
    if not new:
        return counts
    store = RunStore(folder)
    try:
        with store.lock():
            lines = (json.dumps(asdict(r), ensure_ascii=False) for r in {**old, **new}.values())
            write_text(Path(folder) / FILE, "".join(f"{line}\n" for line in lines))
    finally:
        store.close()
    return counts


def read_ratings(folder: str | Path) -> list[Rating]:
    """The ratings that a run keeps; none where nobody rated.

    Raises:
        AutointerpError: where its file is damaged.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return []
    found: list[Rating] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
                rating = Rating(**row)
                _ = [_grade(where, name, row.get(name)) for name in RUBRIC]
            except (ValueError, TypeError, RecursionError, AutointerpError) as error:
                raise AutointerpError(f"{where} is damaged: {error}") from error
            found.append(rating)
    return found


# --------------------------------------------------------------------- what is shown


def _explainer(run: LoadedRun, name: str | None) -> str:
    known = list(dict.fromkeys(row.explainer for row in run.rows if not row.is_baseline))
    if name is None:
        return default_explainer(run)
    if name not in known:
        raise UsageError(f"the run has no explainer {name!r} with words, but {', '.join(known)}")
    return name


def default_explainer(run: LoadedRun) -> str:
    """The explainer with words and the highest mean score by the headline's scorer."""
    values: dict[str, list[float]] = {}
    for row in run.rows:
        if not row.is_baseline:
            score = row.scores.get(run.primary_scorer)
            value = score.outcome().value if score else None
            values.setdefault(row.explainer, [])
            if value is not None:
                values[row.explainer].append(value)
    if not values:
        raise AutointerpError(f"{run.folder} has no explainer with words")
    # One with a few labels by hand is not the run's own.
    most = max(len(found) for found in values.values())
    usual = [name for name, found in values.items() if 2 * len(found) >= most]
    return max(usual, key=lambda name: float(np.mean(values[name])) if values[name] else -2.0)


def _sources(run: LoadedRun, names: Sequence[str]) -> list[str]:
    known = list(dict.fromkeys(row.source for row in run.rows))
    for name in names:
        if name not in known:
            raise UsageError(f"the run has no source {name!r}, but {', '.join(known)}")
    return list(names) or known


def _chosen(
    run: LoadedRun, explainer: str, sources: Sequence[str], n_units: int, seed: int
) -> list[ExplanationRow]:
    """Explained units in random order, as equally many of every source as there are."""
    generator = np.random.default_rng(derived_seed(seed, "ratings"))
    piles: list[list[ExplanationRow]] = []
    for source in sources:
        pile = [
            row
            for row in run.rows
            if (row.source, row.explainer, row.status) == (source, explainer, Status.OK)
            and row.explanation
        ]
        piles.append([pile[i] for i in generator.permutation(len(pile))])
    turns = (pile[turn] for turn in range(n_units) for pile in piles if turn < len(pile))
    found = [row for row, _ in zip(turns, range(n_units), strict=False)]
    if not found:
        raise AutointerpError(f"no unit of {', '.join(sources)} is explained by {explainer}")
    return [found[i] for i in generator.permutation(len(found))]


def _shown(row: ExplanationRow, record: UnitRecord, seed: int) -> dict[str, Any]:
    """What a rater sees. Every cell begins with a number or a quote: none can be a formula."""
    from autointerp.explainers.windows import highlighted
    from autointerp.scorers.prompts import shown_text

    strong, spread, silent = rated_windows(record, seed)
    promoted = [f"“{one.token}”" for one in (record.promoted or ())[:10]]
    return {
        "explanation": f"“{row.explanation}”",
        "strongest": [highlighted(w) for w in strong],
        "weaker": [highlighted(w) for w in spread],
        "silent": [shown_text(w.tokens) for w in silent],
        "promoted": promoted,
        **dict.fromkeys(RUBRIC, None),
        "rater": "",
        "comment": "",
    }


def rated_windows(
    record: UnitRecord, seed: int
) -> tuple[list[ActivationRecord], list[ActivationRecord], list[ActivationRecord]]:
    """The `test` windows that a rater sees: the strongest, others over the range, silent ones."""
    from autointerp.explainers.windows import distinct, unmasked_maximum

    windows = [w for w in distinct(record.of(Split.TEST)) if w.stratum != Strata.RANDOM]
    active = [w for w in windows if Strata.is_active(w.stratum)]
    active.sort(key=lambda w: (-unmasked_maximum(w), w.window))
    rest = active[N_STRONG:]
    places = np.unique(np.linspace(0, len(rest) - 1, N_SPREAD).round().astype(int)) if rest else []
    silent = [w for w in windows if not Strata.is_active(w.stratum)]
    generator = np.random.default_rng(derived_seed(seed, "rating texts", record.unit))
    silent = [silent[i] for i in generator.permutation(len(silent))[:N_SILENT]]
    return active[:N_STRONG], [rest[i] for i in places], silent


def heading(name: str) -> str:
    """The column of a rating in a file."""
    return f"{name} (0-{RUBRIC[name][0]})"


def _as_csv(items: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    names = [*(n for n in items[0] if n not in RUBRIC and n not in ("rater", "comment"))]
    writer.writerow([*names, *map(heading, RUBRIC), "rater", "comment"])
    for item in items:
        cells = [
            "\n".join(f"{i}. {line}" for i, line in enumerate(v, 1)) if isinstance(v, list) else v
            for v in (item[name] for name in names)
        ]
        # So that no spreadsheet takes a name of figures for a number.
        cells[0] = f"#{cells[0]}"
        writer.writerow([*cells, *[""] * len(RUBRIC), "", ""])
    return text.getvalue()


def _as_jsonl(items: Sequence[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(item, ensure_ascii=False)}\n" for item in items)


# --------------------------------------------------------------------- what comes back


def _keep_key(folder: Path, items: Mapping[str, Mapping[str, str]]) -> None:
    from autointerp.store import write_text

    path = folder / "ratings" / "key.json"
    known = _read_key(folder) if path.exists() else {}
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps({**known, **items}, indent=1, ensure_ascii=False) + "\n")


def _read_key(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / "ratings" / "key.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for one in found.values():
            _ = UnitId.parse(one["unit"]), str(one["explainer"]), str(one["explanation_key"])
    except FileNotFoundError:
        raise AutointerpError(
            f"{str(folder)!r} gave out no items to rate: write a file with `autointerp ratings "
            "export` first"
        ) from None
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise AutointerpError(f"{path} is damaged: {error!r}") from error
    return found


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES:,} bytes: no file of ratings")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"ratings {str(path)!r} cannot be read: {error}") from error
    if path.suffix == ".jsonl":
        return _jsonl_rows(path, text)
    if path.suffix != ".csv":
        raise UsageError(f"ratings {str(path)!r}: expected a .csv or a .jsonl file")
    try:
        dialect = (
            ";" if text.split("\n", 1)[0].count(";") > text.split("\n", 1)[0].count(",") else ","
        )
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=dialect, strict=True)
        return [
            (reader.line_num, {_column(str(name)): value for name, value in row.items()})
            for row in reader
        ]
    except csv.Error as error:
        raise UsageError(f"{path}: not csv: {error}") from error


def _jsonl_rows(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    found: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {number}: expected an object, not {line[:80]!r}")
        found.append((number, row))
    return found


def _column(name: str) -> str:
    return re.sub(r"\s*\(0\s*[-–]\s*\d+\)\s*$", "", name.strip()).lower()


def _rating(
    where: str, row: Mapping[str, Any], items: Mapping[str, Mapping[str, str]], rater: str | None
) -> Rating | None:
    """One row; `None` where nothing is filled in.

    Raises:
        UsageError: saying what is wrong with it.
    """
    item = str(row.get("item") or "").strip().removeprefix("#")
    if item not in items:
        raise UsageError(
            f"{where}: item {item[:40]!r} was not given out by this run: import it into the run "
            "that the file was written from, with its columns as they were"
        )
    grades = {name: _grade(where, name, row.get(name)) for name in RUBRIC}
    if all(grade is None for grade in grades.values()):
        return None
    who = str(row.get("rater") or "").strip() or (rater or "").strip()
    if not who or len(who) > 200:
        raise UsageError(f"{where}: who rated is not said: fill in `rater`, or give --rater NAME")
    comment = str(row.get("comment") or "").strip()
    if len(comment) > _MAX_TEXT:
        raise UsageError(f"{where}: a comment has at most {_MAX_TEXT} characters")
    facts = items[item]
    return Rating(
        unit=facts["unit"],
        explainer=facts["explainer"],
        explanation_key=facts["explanation_key"],
        rater=who,
        item=item,
        confidence=grades["confidence"],
        consistency=grades["consistency"],
        outputs=grades["outputs"],
        specificity=grades["specificity"],
        simple=grades["simple"],
        comment=comment,
    )


def _grade(where: str, name: str, value: Any) -> int | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    most = RUBRIC[name][0]
    wrong = UsageError(f"{where}: {name} is {str(value)[:40]!r}; it is a whole number 0 to {most}")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong
    try:
        number = float(value)
    except ValueError:
        raise wrong from None
    if not number.is_integer() or not 0 <= number <= most:
        raise wrong
    return int(number)
