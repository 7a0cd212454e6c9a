"""Names of the controls that a run scores beside every explanation."""

from typing import Literal

ControlName = Literal["empty", "generic", "narrow", "permuted", "sign_flip"]

CONTROL_NAMES: tuple[ControlName, ...] = ("empty", "generic", "narrow", "permuted", "sign_flip")
"""What `controls: true` stands for; `autointerp.controls` says what each shows."""
