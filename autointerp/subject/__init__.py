"""Subjects: load a language model, name places inside it, run it up to a place.

Names are imported when they are asked for: explainers and scorers know what may be asked of a
subject (`requests.py`) without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autointerp.subject.embedded import EMBEDDED_NAME
    from autointerp.subject.generation import Generation, Sampling
    from autointerp.subject.hooks import HookPoint
    from autointerp.subject.intervene import AddVector, Edit, SetTo
    from autointerp.subject.load import load_subject
    from autointerp.subject.model import Subject

__all__ = [
    "EMBEDDED_NAME",
    "AddVector",
    "Edit",
    "Generation",
    "HookPoint",
    "Sampling",
    "SetTo",
    "Subject",
    "load_subject",
]

_HOMES = {
    "embedded": ("EMBEDDED_NAME",),
    "generation": ("Generation", "Sampling"),
    "hooks": ("HookPoint",),
    "intervene": ("AddVector", "Edit", "SetTo"),
    "load": ("load_subject",),
    "model": ("Subject",),
}
_EXPORTS = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"autointerp.subject.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module 'autointerp.subject' has no attribute {name!r}")
