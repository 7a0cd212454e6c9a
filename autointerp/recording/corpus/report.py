"""What reading a corpus came across: documents read, skipped and dropped, each counted."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from autointerp.records import AutointerpError

TOLERATED_SHARE = 0.1
"""Rows or files that may be unreadable, of all read. More, and the corpus is refused."""

_EARLY = 200
"""With so many unreadable rows the share is looked at before the end."""


@dataclass
class CorpusReport:
    """Counts of one reading, and where each kind of trouble was met first."""

    n_read: int = 0
    """Texts found, before any was dropped."""

    n_empty: int = 0
    """Texts of nothing but white space."""

    n_duplicates: int = 0
    """Texts that had been read already."""

    n_beyond_limit: int = 0
    """Distinct texts left unread by `max_tokens`: a random part of the corpus."""

    n_near_duplicates: int = 0
    """Documents kept that share a cluster, and so a split, with another."""

    n_ignored_files: int = 0
    """Files of a folder that are no kind of text."""

    unreadable: Counter[str] = field(default_factory=Counter[str])
    """Reason → rows or files that could not be read and were skipped."""

    first: dict[str, str] = field(default_factory=dict[str, str])
    """Reason → where it was met first, and how."""

    def skip(self, reason: str, where: str, detail: str = "") -> None:
        """Count what cannot be read; the detail, which differs from case to case, is of the first.

        Raises:
            AutointerpError: where too much of what was read so far cannot be.
        """
        self.unreadable[reason] += 1
        self.first.setdefault(reason, f"{where}: {reason}" + (f" ({detail})" if detail else ""))
        if self.unreadable.total() >= _EARLY:
            self.check()

    def check(self) -> None:
        """Refuse a corpus of which more than `TOLERATED_SHARE` cannot be read."""
        n_bad = self.unreadable.total()
        if n_bad > TOLERATED_SHARE * (self.n_read + n_bad):
            n_all = self.n_read + n_bad
            more = f". {n_bad} of the {n_all} texts read so far are no better" if n_all > 1 else ""
            if any(reason.startswith("no text in field") for reason in self.unreadable):
                more += "; set corpus.text_field to the field that holds the text"
            raise AutointerpError("; ".join(self.first.values()) + more)

    def notes(self) -> list[str]:
        """One line for everything that a reader of the results should know."""
        lines: list[str] = []
        if self.unreadable:
            counts = ", ".join(
                f"{n} × {reason} (the first: {self.first[reason]})"
                for reason, n in self.unreadable.most_common()
            )
            lines.append(f"skipped in the corpus: {counts}")
        if self.n_empty:
            lines.append(f"{self.n_empty} empty texts were dropped")
        if self.n_duplicates:
            lines.append(f"{self.n_duplicates} repeated documents were dropped")
        return lines

    def as_json(self) -> dict[str, Any]:
        """For the run's folder."""
        return {**vars(self), "unreadable": dict(self.unreadable), "first": dict(self.first)}
