"""What a run will take, before it starts: calls, tokens, money, hours and disk.

Prompts are built for a sample of units by the run's own explainers and judges (`dry_run`): of real
units once they are recorded, of made-up ones before. What a call takes is averaged over the sample
and multiplied by the number of units.
"""

from autointerp.estimate.figures import RunEstimate, StageEstimate
from autointerp.estimate.local_time import duration, estimate_seconds
from autointerp.estimate.pricing import CACHED_PREFIX
from autointerp.estimate.printing import print_estimate
from autointerp.estimate.whole_run import estimate_run

__all__ = [
    "CACHED_PREFIX",
    "RunEstimate",
    "StageEstimate",
    "duration",
    "estimate_run",
    "estimate_seconds",
    "print_estimate",
]
