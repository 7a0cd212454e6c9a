"""Subjects: load a language model, name places inside it, run it up to a place."""

from autointerp.subject.embedded import EMBEDDED_NAME
from autointerp.subject.hooks import HookPoint
from autointerp.subject.load import load_subject
from autointerp.subject.model import Subject

__all__ = ["EMBEDDED_NAME", "HookPoint", "Subject", "load_subject"]
