"""`autointerp import`: explanations and windows of others, laid out to be scored here.

FOLDER/import.json                 what was read, and how much of it could be used
FOLDER/refused.txt                 what could not, with file and line
FOLDER/rows.parquet                rows of `autointerp export`, as they were
FOLDER/explanations/EXPLAINER.jsonl   unit and text, as explainers of type `fixed` read them
FOLDER/records/SOURCE.jsonl        windows, as sources of type `recorded` read them
FOLDER/import.yaml                 a config for them, where there are windows
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from autointerp.export.reading import (
    FoundExplanation,
    FoundRow,
    FoundWindow,
    Refused,
    read_paths,
)
from autointerp.export.reading.found import explainer_of
from autointerp.export.schema import EXPORT_VERSION
from autointerp.export.write import RowWriter
from autointerp.names import as_name
from autointerp.records import AutointerpError, UnitId, UsageError
from autointerp.store import write_text

MAX_REFUSED = 10_000
"""Refusals that are listed; all are counted."""

MAX_FILES = 256
"""Sources and explainers of one import at most: each is a file that stays open."""

_OWN = ("import.json", "refused.txt", "rows.parquet", "import.yaml", "explanations", "records")


@dataclass
class ImportedFiles:
    """What came of an import."""

    folder: Path
    explanations: dict[str, int] = field(default_factory=dict)
    """Explainer → texts."""
    windows: dict[str, int] = field(default_factory=dict)
    """Source → windows."""
    n_rows: int = 0
    """Rows of `autointerp export`."""
    n_repeated: int = 0
    """Texts and windows that were there already."""
    n_refused: int = 0
    refused: list[Refused] = field(default_factory=list)
    """The first `MAX_REFUSED` of them."""

    @property
    def config(self) -> Path | None:
        """The config that scores without a subject, where windows were found."""
        return self.folder / "import.yaml" if self.windows else None


def import_files(
    paths: Sequence[str | Path], folder: str | Path, sources: Sequence[str] = ()
) -> ImportedFiles:
    """Read files of others into a folder.

    Args:
        paths: files, or folders of them.
        folder: to make; what an earlier import wrote there is replaced.
        sources: `NEW`, or `OLD=NEW`: how sources of the files are called here.

    Raises:
        UsageError: where a path or a name cannot be used.
        AutointerpError: where nothing in the files can be used, or the folder is of others.
    """
    place = Path(folder)
    _check_free(place, paths)
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        renaming = _Renaming(sources)
        found = _Writer(partial, renaming).write(read_paths(paths))
        if not (found.explanations or found.windows or found.n_rows):
            first = found.refused[0] if found.refused else None
            why = f"; the first: {first.where}: {first.reason}" if first else ""
            raise AutointerpError(f"nothing could be used ({found.n_refused} refused{why})")
        renaming.check_all_met()
        found.folder = place
        _describe(found, partial, [Path(path).name for path in paths])
        shutil.rmtree(place, ignore_errors=True)
        partial.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


class _Renaming:
    """How sources of the files are called here."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._names: dict[str, str] = {}
        self._only: str | None = None
        self._seen: set[str] = set()
        for given in sources:
            old, equals, new = given.rpartition("=")
            if not new or as_name(new) != new or (equals and not old):
                raise UsageError(f"--source {given!r}: expected NAME or OLD=NAME")
            if equals:
                self._names[old] = new
            elif self._only or len(sources) > 1:
                raise UsageError("--source NAME stands alone; write OLD=NAME for several")
            else:
                self._only = new

    def __call__(self, unit: UnitId) -> UnitId:
        self._seen.add(unit.source)
        if self._only and len(self._seen) > 1:
            some = ", ".join(sorted(self._seen)[:5])
            raise UsageError(
                f"the files hold units of several sources ({some}): write --source OLD=NAME for "
                "each of them"
            )
        new = self._only or self._names.get(unit.source, unit.source)
        return UnitId(new, unit.index, unit.polarity)

    def check_all_met(self) -> None:
        """Refuse names that no source of the files has."""
        unmet = sorted(set(self._names) - self._seen)
        if unmet:
            some = ", ".join(sorted(self._seen)[:5])
            raise UsageError(f"--source {unmet[0]}=…: the files have no such source, but {some}")


class _Writer:
    """Writes what is found, once each."""

    def __init__(self, folder: Path, renaming: _Renaming) -> None:
        self._folder = folder
        self._renaming = renaming
        self._found = ImportedFiles(folder)
        self._stack = ExitStack()
        self._files: dict[tuple[str, str], IO[str]] = {}
        self._seen: set[bytes] = set()
        """Hashes of 16 bytes: of explainer and unit with and without the text, and of windows."""

    def write(self, items: Iterator[Any]) -> ImportedFiles:
        """Write everything."""
        with self._stack:
            rows: RowWriter | None = None
            for item in items:
                if isinstance(item, Refused):
                    self._found.n_refused += 1
                    if len(self._found.refused) < MAX_REFUSED:
                        self._found.refused.append(item)
                elif isinstance(item, FoundRow):
                    path = self._folder / "rows.parquet"
                    rows = rows or self._stack.enter_context(RowWriter(path))
                    rows.write(item.row)
                    self._found.n_rows += 1
                    self._text_of(item.row)
                elif isinstance(item, FoundWindow):
                    self._window(item)
                else:
                    self._explanation(item)
        return self._found

    def _text_of(self, row: Mapping[str, Any]) -> None:
        """The explanation of an exported row; what only a control said is no explanation."""
        text = " ".join((row["explanation"] or "").split())
        if text and not row["is_baseline"]:
            unit = UnitId.parse(row["unit"])
            self._explanation(FoundExplanation(unit, explainer_of(row["explainer"]), text))

    def _explanation(self, item: FoundExplanation) -> None:
        unit = self._renaming(item.unit)
        if not self._is_new(item.explainer, str(unit), item.text):
            return
        number, name = 1, item.explainer
        while not self._is_free(name, str(unit)):
            number += 1
            name = f"{item.explainer}_{number}"
        row = {"unit": str(unit), "explanation": item.text, **item.published}
        self._put("explanations", name, row, self._found.explanations)

    def _window(self, item: FoundWindow) -> None:
        unit = self._renaming(item.unit)
        if not self._is_new("window", str(unit), item.document or "", *item.tokens):
            return
        row: dict[str, Any] = {
            "unit": str(unit), "tokens": item.tokens, "activations": item.activations
        }  # fmt: skip
        for name in ("document", "split"):
            if getattr(item, name) is not None:
                row[name] = getattr(item, name)
        self._put("records", unit.source, row, self._found.windows)

    def _put(self, kind: str, name: str, row: dict[str, Any], counts: dict[str, int]) -> None:
        file = self._files.get((kind, name))
        if file is None:
            if len(self._files) >= MAX_FILES:
                raise AutointerpError(
                    f"the files hold more than {MAX_FILES} sources and explainers (the last: "
                    f"{name[:80]!r}): import fewer at a time"
                )
            path = self._folder / kind / f"{name}.jsonl"
            path.parent.mkdir(exist_ok=True)
            file = self._stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            self._files[kind, name] = file
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        counts[name] = counts.get(name, 0) + 1

    def _is_new(self, *parts: str) -> bool:
        new = self._add(parts)
        self._found.n_repeated += not new
        return new

    def _is_free(self, explainer: str, unit: str) -> bool:
        return self._add((explainer, unit))

    def _add(self, parts: Sequence[str]) -> bool:
        key = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()
        new = key not in self._seen
        self._seen.add(key)
        return new


def _check_free(place: Path, paths: Sequence[str | Path]) -> None:
    if place.is_file():
        raise UsageError(f"{place} is a file: --output names a folder")
    others = [p.name for p in place.glob("*") if p.name not in _OWN]
    if others or (any(place.glob("*")) and not (place / "import.json").exists()):
        raise AutointerpError(
            f"{place} holds other files ({', '.join(others[:3]) or 'of another command'}): give "
            "a folder of its own"
        )
    own = place.resolve()
    for path in map(Path, paths):
        read = path.resolve()
        if read.is_relative_to(own) or (path.is_dir() and own.is_relative_to(read)):
            raise UsageError(f"{path} and --output {place} lie in each other: give another folder")


def _describe(found: ImportedFiles, written: Path, names: list[str]) -> None:
    """`import.json`, `refused.txt` and, where there are windows, a config."""
    facts = {
        "schema_version": EXPORT_VERSION,
        "files": names,
        "rows": found.n_rows,
        "explanations": found.explanations,
        "windows": found.windows,
        "repeated": found.n_repeated,
        "refused": found.n_refused,
    }
    write_text(written / "import.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    if found.refused:
        lines = [f"{one.where}: {' '.join(one.reason.split())}" for one in found.refused]
        if found.n_refused > len(lines):
            lines.append(f"… and {found.n_refused - len(lines)} more")
        text = "\n".join(lines) + "\n"
        write_text(written / "refused.txt", text.encode("utf-8", "replace").decode())
    if found.windows:
        config = _config(found)
        header = "# Score imported explanations on imported windows; no subject is needed.\n"
        write_text(written / "import.yaml", header + yaml.safe_dump(config, sort_keys=False))


def _config(found: ImportedFiles) -> dict[str, Any]:
    place = found.folder.resolve()
    fixed = [
        {"name": name, "type": "fixed", "path": str(place / "explanations" / f"{name}.jsonl")}
        for name in found.explanations
    ]
    return {
        "name": as_name(place.name),
        "output": str(place.with_name(f"{place.name}-run")),
        "sources": {
            name: {"type": "recorded", "path": str(place / "records" / f"{name}.jsonl")}
            for name in found.windows
        },
        "units": {"sample": None, "min_active_documents": 1},
        "explainers": [
            *(fixed or [{"name": "top_tokens", "type": "top_tokens"}]),
            {"name": "token_lookup", "type": "token_lookup"},
        ],
    }
