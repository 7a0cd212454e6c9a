"""Explanations from a file: written by people, or by another tool."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autointerp.explainers.base import Explaining, ExplainView
from autointerp.records import AutointerpError, Explanation, Status, UnitId, UsageError, content_key

MAX_CHARACTERS = 2000
"""Longest text of an explanation."""


class Fixed:
    """Gives every unit the text that a file has for it.

    A file is `.csv` with a header, or `.jsonl` with an object a line; it has `unit`
    (`SOURCE/INDEX`) and `explanation`. Other columns are left aside, units of other runs too.
    """

    needs_llm = False

    def __init__(self, name: str = "fixed", *, path: str | Path) -> None:
        """Read the file.

        Args:
            name: as in the config.
            path: the file.

        Raises:
            UsageError: naming the line that cannot be used: of another form, without a text, or
                about a unit that had one already.
        """
        self.name = name
        self.texts = read_texts(Path(path))
        self.path = str(path)
        self.fingerprint = content_key("explainer", type="fixed", texts=_as_json(self.texts))

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Give the text; yields no request. See `Explainer.explain`."""
        yield from ()
        text = self.texts.get(view.unit)
        if text is None:
            reason = f"{Path(self.path).name} has no text for {view.unit}"
            return Explanation(view.unit, self.name, None, Status.NOT_RUN, key, reason)
        return Explanation(view.unit, self.name, text, Status.OK, key, details={"path": self.path})


def read_texts(path: Path) -> dict[UnitId, str]:
    """The texts of a file by unit.

    Raises:
        UsageError: as `Fixed` says.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"explanations {str(path)!r} cannot be read: {error}") from error
    if path.suffix not in (".csv", ".jsonl"):
        raise UsageError(f"explanations {str(path)!r}: expected a .csv or a .jsonl file")
    rows = _csv_rows(path, content) if path.suffix == ".csv" else _jsonl_rows(path, content)
    texts: dict[UnitId, str] = {}
    for number, row in rows:
        unit, text = _entry(path, number, row)
        if unit in texts:
            raise UsageError(f"{path}, line {number}: {unit} has a text already")
        texts[unit] = text
    if not texts:
        raise UsageError(f"explanations {str(path)!r} hold no unit")
    return texts


def _csv_rows(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    try:
        for row in reader:
            yield reader.line_num, {str(name): value for name, value in row.items()}
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: not csv: {error}") from error


def _jsonl_rows(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in enumerate(content.split("\n"), 1):
        if text.strip():
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}, line {number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise UsageError(f"{path}, line {number}: expected an object, not {text[:80]!r}")
            yield number, row


def _entry(path: Path, number: int, row: dict[str, Any]) -> tuple[UnitId, str]:
    for name in ("unit", "explanation"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            found = ", ".join(sorted(map(str, row))) or "nothing"
            raise UsageError(
                f"{path}, line {number}: needs a text under {name!r}; the line has {found[:200]}"
            )
    text = " ".join(row["explanation"].split())
    if len(text) > MAX_CHARACTERS:
        raise UsageError(
            f"{path}, line {number}: {len(text)} characters are no explanation; at most "
            f"{MAX_CHARACTERS} are read"
        )
    try:
        return UnitId.parse(row["unit"]), text
    except AutointerpError as error:
        raise UsageError(f"{path}, line {number}: {error}") from error


def _as_json(texts: dict[UnitId, str]) -> list[list[str]]:
    return [[str(unit), text] for unit, text in sorted(texts.items())]
