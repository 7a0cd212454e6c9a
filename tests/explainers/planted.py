"""Unit records made by hand: which tokens fire is plain to see."""

from collections.abc import Mapping, Sequence

import numpy as np

from autointerp.records import (
    ActivationRecord,
    Split,
    SplitStatistics,
    Strata,
    TopToken,
    UnitId,
    UnitRecord,
    Window,
)

UNIT = UnitId("planted", 7)


def record(
    tokens: Sequence[str],
    activations: Mapping[int, float] | None = None,
    *,
    split: Split = Split.EXPLAIN,
    number: int = 0,
    document: str = "",
    masked: Sequence[int] = (),
) -> ActivationRecord:
    """A window with activations at some places."""
    values = np.zeros(len(tokens), np.float32)
    for place, value in (activations or {}).items():
        values[place] = value
    mask = np.zeros(len(tokens), bool)
    mask[list(masked)] = True
    return ActivationRecord(
        unit=UNIT,
        window=Window(f"{number:016x}", 0, len(tokens)),
        document_id=document or f"document {number}",
        split=split,
        stratum=Strata.TOP if values.any() else Strata.SILENT,
        probability=1.0,
        tokens=tuple(tokens),
        activations=values,
        masked=mask,
    )


def statistics(
    top: Sequence[tuple[str, float, int]], *, n_tokens: int, mean: float, maximum: float
) -> SplitStatistics:
    """Statistics with a top-token table of (token, mean, count)."""
    return SplitStatistics(
        n_tokens=n_tokens,
        n_active=1,
        n_documents=1,
        n_active_documents=1,
        maximum=maximum,
        moments=(mean, 0.0, 0.0, 0.0),
        histogram=(),
        top_tokens=tuple(TopToken(t, m, m, n, maximum) for t, m, n in top),
    )


def animals() -> UnitRecord:
    """Fires on animals; in `test` documents alone it fires on " ZEBRA" too."""
    explain = [
        record([" a", " horse", " ran", "."], {1: 8.0}, number=1),
        record([" the", " dog", " barked", "\n"], {1: 10.0, 2: 4.0}, number=2),
        record([" my", " cat", " and", " dog"], {1: 6.0, 3: 9.9}, number=3),
        record([" it", " rained", " all", " day"], number=4),
    ]
    hidden = [
        record([" one", " ZEBRA", " ran", "."], {1: 20.0}, split=split, number=number)
        for number, split in enumerate((Split.TEST, Split.CALIBRATE, Split.AUDIT), 5)
    ]
    return UnitRecord(UNIT, (*hidden, *explain), {})


def animals_with_statistics() -> UnitRecord:
    """The same with statistics of two splits."""
    explain = statistics(
        [(" dog", 9.5, 4), (" horse", 8.0, 2), (" cat", 6.0, 2), (" barked", 4.0, 1)],
        n_tokens=1000,
        mean=0.1,
        maximum=10.0,
    )
    test = statistics([(" ZEBRA", 20.0, 3)], n_tokens=1000, mean=0.2, maximum=20.0)
    return UnitRecord(UNIT, animals().records, {Split.EXPLAIN: explain, Split.TEST: test})
