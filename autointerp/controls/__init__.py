"""Controls: what should score nothing, or a known number, beside every score of a run.

| control | the score of | what it shows where it is wrong |
|---|---|---|
| `shuffled` | explanations of other units of like firing rate | a score that any words get |
| `empty` | an explanation that says nothing | a judge that says yes |
| `generic` | an explanation that is true of all text | a score that does not punish breadth |
| `narrow` | the unit's strongest token alone | a score that does not punish narrowness |
| `permuted` | the simulation with its tokens in another order: 0 | a leak in the pipeline |
| `sign_flip` | the negated simulation: − score | a score of absolute values |

The first are the donors of `score.shuffled_donors` and make the lift; the others are asked for by
`controls:` in the config. The last two need no simulation of their own.
"""

from autointerp.controls.scoring import (
    ALL_CONTROLS,
    FREE_CONTROLS,
    TEXT_CONTROLS,
    control_text,
    in_step,
    score_with_controls,
)

__all__ = [
    "ALL_CONTROLS",
    "FREE_CONTROLS",
    "TEXT_CONTROLS",
    "control_text",
    "in_step",
    "score_with_controls",
]
