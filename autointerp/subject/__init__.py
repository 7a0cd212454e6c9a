"""Subjects: load a language model, name places inside it, run it up to a place."""

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
