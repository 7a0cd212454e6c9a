"""Token injection: is a unit's meaning in the context, or do its tokens alone do it?

The unit's strongest tokens are put at random places of windows in which it is silent.

    score = share of those windows in which it then fires

A share near 1 says that the tokens are enough, and refutes every explanation by context: by what
the text is about, by what someone is doing in it. The control puts in other units' strongest
tokens. The score is of the unit, the same for all its explanations, and no language model is asked.
(Falsification by injected tokens, as done for "reasoning" features of dictionaries, 2026.)
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autointerp.records import ActivationRecord, Score, Split, Status, Strata, UnitRecord
from autointerp.scorers.judged import Problem
from autointerp.scorers.live import Heard, LiveScorer, Outcome, Statistic, share
from autointerp.scorers.simulation import ScoreJob
from autointerp.subject.requests import Activated, InjectionRequest


@dataclass(frozen=True)
class InjectionScorer(LiveScorer):
    """Scores a unit by whether its tokens alone make it fire."""

    kind: ClassVar[str] = "injection"
    metric: ClassVar[str] = "share that fires with tokens put in"
    reads_explanation: ClassVar[bool] = False
    needs_others: ClassVar[bool] = True
    asks: ClassVar[bool] = False

    n_windows: int = 20
    """Silent windows."""

    n_tokens: int = 3
    """Tokens put into each."""

    n_top: int = 10
    """Strongest tokens drawn from."""

    fires_at: float = 0.1
    """The unit fires where it passes this share of its maximum in `explain`."""

    def score(self, job: ScoreJob) -> Generator[Sequence[Any], Sequence[Any], Score]:
        """Put tokens in, run the windows."""
        windows = self.silent(job)
        own = strongest_tokens(job.record, self.n_top)
        problem = self.problem(job)
        if problem is None and (not windows or not own):
            what = "no silent window" if not windows else "no token on which it is active"
            problem = Problem(Status.INSUFFICIENT_DATA, f"{what} was sampled")
        if problem is not None:
            return self.missing(job, problem)
        sets = [own, *(strongest_tokens(other, self.n_top) for other in job.others)]
        requests = [self.injection(job, windows, tokens) for tokens in sets if tokens]
        found: Sequence[list[Activated]] = yield requests
        bound = self.fires_at * job.record.explain_maximum()
        rows = iter(np.array([[one.maximum > bound for one in arm] for arm in found], float))
        fired = [next(rows) if tokens else None for tokens in sets]
        every = np.ones(len(windows), bool)
        donors: list[Statistic | None] = [
            None if row is None else share(row, every) for row in fired[1:]
        ]
        donors += [None] * (len(job.donors) - len(donors))
        assert fired[0] is not None
        outcome = Outcome(
            own=share(fired[0], every),
            donors=donors,
            strata=[w.stratum for w in windows],
            clusters=[w.document_id for w in windows],
            # They were chosen for being silent.
            chance=0.0,
            n=len(windows),
            details={"tokens": list(own), "fires_at": self.fires_at, "n_tokens": self.n_tokens},
        )
        return self.finished(job, outcome, Heard())

    def silent(self, job: ScoreJob) -> list[ActivationRecord]:
        """Windows of the split in which the unit is silent, by chance and by likeness."""
        own = [
            w
            for w in job.record.of(self.split)
            if w.stratum in (Strata.SILENT, Strata.HARD) and not w.masked.all()
        ]
        order = self.generator(job, "windows").permutation(len(own))[: self.n_windows]
        return [own[i] for i in sorted(int(i) for i in order)]

    def injection(
        self, job: ScoreJob, windows: Sequence[ActivationRecord], tokens: Sequence[str]
    ) -> InjectionRequest:
        """The same places for all sets of tokens."""
        places = self.generator(job, "places")
        drawn = self.generator(job, "tokens")
        chosen: list[tuple[int, ...]] = []
        put: list[tuple[str, ...]] = []
        for window in windows:
            open_places = np.flatnonzero(~window.masked)
            n = min(self.n_tokens, len(open_places))
            chosen.append(tuple(int(i) for i in places.choice(open_places, n, replace=False)))
            put.append(tuple(tokens[int(i)] for i in drawn.integers(0, len(tokens), n)))
        every = tuple(window.window for window in windows)
        return InjectionRequest(job.record.unit, every, tuple(put), tuple(chosen))


def strongest_tokens(record: UnitRecord, n: int) -> tuple[str, ...]:
    """Tokens of `explain` with the highest mean activation; of its windows where unknown."""
    statistics = record.statistics.get(Split.EXPLAIN)
    found = [top.token for top in statistics.top_tokens if top.mean > 0] if statistics else []
    if not found:
        peaks = sorted(
            (w for w in record.of(Split.EXPLAIN) if Strata.is_active(w.stratum)),
            key=lambda w: -w.maximum,
        )
        found = [w.tokens[int(np.where(w.masked, -1.0, w.activations).argmax())] for w in peaks]
    # A part of a character is no token that could be put in by its text.
    return tuple(dict.fromkeys(token for token in found if token and "\ufffd" not in token))[:n]
