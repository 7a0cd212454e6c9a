"""Labels that people gave a run's units: kept with the run and scored like any explanation.

`labels.jsonl` in a run's folder has an object a line: `unit`, `explanation`, `author`, `at`.
Nothing is removed from it: the last line about a unit is its label.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from autointerp.explainers.base import Explaining, ExplainView
from autointerp.explainers.fixed import MAX_CHARACTERS
from autointerp.records import (
    AutointerpError,
    Explanation,
    Status,
    UnitId,
    UsageError,
    content_key,
)

if TYPE_CHECKING:
    from autointerp.config import RunConfig

FILE = "labels.jsonl"
"""Where a run keeps its labels."""

NAME = "human"
"""The explainer that a run with labels has, whatever its config names."""

MAX_AUTHOR = 200


@dataclass(frozen=True)
class Label:
    """One person's words for one unit."""

    unit: str
    explanation: str
    author: str
    at: str
    """When it was given: ISO 8601, UTC."""


class Labels:
    """Gives every unit the label that somebody gave it."""

    needs_llm = False

    def __init__(self, name: str = NAME, *, path: str | Path) -> None:
        """Read the labels.

        Args:
            name: as in the config.
            path: a run's `labels.jsonl`.

        Raises:
            UsageError: naming the line that cannot be used.
        """
        self.name = name
        self.labels = read_labels(path)
        spelled = [[str(u), one.explanation, one.author] for u, one in sorted(self.labels.items())]
        self.fingerprint = content_key("explainer", type="labels", labels=spelled)

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Give the label; yields no request. See `Explainer.explain`."""
        yield from ()
        label = self.labels.get(view.unit)
        if label is None:
            return Explanation(
                view.unit, self.name, None, Status.NOT_RUN, key, f"nobody labelled {view.unit}"
            )
        details = {"author": label.author, "at": label.at}
        return Explanation(view.unit, self.name, label.explanation, Status.OK, key, details=details)


def read_labels(path: str | Path) -> Mapping[UnitId, Label]:
    """The last label of every unit.

    Raises:
        UsageError: naming the line that cannot be used.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"labels {str(path)!r} cannot be read: {error}") from error
    found: dict[UnitId, Label] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            label = Label(**json.loads(line))
            _check(label.explanation, label.author)
            found[UnitId.parse(label.unit)] = label
        except (ValueError, TypeError, AttributeError, RecursionError, AutointerpError) as error:
            raise UsageError(f"{path}, line {number}: no label: {error}") from error
    return found


def add_label(folder: str | Path, unit: str, text: str, author: str) -> Label:
    """Keep a label in a run's folder; the next run scores it beside the other explanations.

    Args:
        folder: of a run that has recorded its units.
        unit: `SOURCE/INDEX`.
        text: the label.
        author: who gave it.

    Raises:
        UsageError: where text or author cannot be used, or the config has another explainer called
            `human`.
        AutointerpError: where the folder holds no run, or the unit was not recorded.
    """
    from autointerp.config import RunConfig, load_config
    from autointerp.store import RunStore, config_file, write_text

    place = Path(folder)
    config = load_config(config_file(place), RunConfig)
    for explainer in config.explainers:
        if explainer.name == NAME and explainer.type != "labels":
            raise UsageError(
                f"the run has an explainer {NAME!r} of type {explainer.type}: call it otherwise, "
                f"the name is for labels by hand"
            )
    text = " ".join(text.split())
    _check(text, author)
    name = UnitId.parse(unit)
    if name.source not in config.sources:
        known = ", ".join(config.sources)
        raise AutointerpError(f"unit {name}: there is no source but {known}")
    store = RunStore(place)
    try:
        if name not in {one.unit for one in store.units(name.source)}:
            raise AutointerpError(f"unit {name} was not recorded by the run in {place}")
        label = Label(str(name), text, author.strip(), datetime.now(UTC).isoformat("T", "seconds"))
        path = place / FILE
        with store.lock():
            if path.exists():
                read_labels(path)
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            write_text(path, f"{before}{json.dumps(asdict(label), ensure_ascii=False)}\n")
    finally:
        store.close()
    return label


def with_labels(config: "RunConfig", folder: Path) -> "RunConfig":
    """The config with the explainer `human`, where the run's folder holds labels."""
    from autointerp.config import ExplainerConfig

    path = folder / FILE
    if not path.exists():
        return config
    own = ExplainerConfig(name=NAME, type="labels", path=str(path.absolute()))
    # Its path is that of this folder, wherever the folder was when the config was written.
    others = [e for e in config.explainers if (e.name, e.type) != (NAME, "labels")]
    if any(e.name == NAME for e in others):
        raise UsageError(
            f"{path} holds labels, but the config has another explainer {NAME!r}: rename that one"
        )
    return config.model_copy(update={"explainers": [*others, own]})


def _check(text: str, author: str) -> None:
    if not text.strip():
        raise UsageError("a label needs words")
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"{len(text)} characters are no label; at most {MAX_CHARACTERS} are kept")
    if not author.strip() or len(author) > MAX_AUTHOR:
        raise UsageError(
            f"a label is kept with its author: a name of 1 to {MAX_AUTHOR} characters, not "
            f"{author[:40]!r}"
        )
