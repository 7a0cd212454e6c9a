"""The few-shot's keys and values: computed once a process, and kept on disk for the next one.

A file's name is the hash of model, dtype and token ids; it holds the tensors, a checksum, and how
the model is run on shared beginnings. A file that is damaged is computed again.
"""

import hashlib
import os
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from autointerp.records import content_key
from autointerp.simulators.prefix_model import (
    CopiedPrefixModel,
    KeysValues,
    PrefixModel,
    SharedPrefixModel,
    UnsupportedAttention,
    sharing_model,
)
from autointerp.subject import Subject

_VERSION = 1
"""Raise when what is computed or written changes, so that old files are not read."""


@dataclass(eq=False)
class FewShot:
    """A model ready to go on after its few-shot."""

    model: PrefixModel
    states: KeysValues
    reason: str | None
    """Why the shared keys are copied for every row; `None` where they are not."""


_ALIVE: weakref.WeakValueDictionary[tuple[str, int], FewShot] = weakref.WeakValueDictionary()
"""The few-shots of this process, by their key and the model they run."""


def read_few_shot(subject: Subject, ids: list[int], folder: Path | None) -> FewShot:
    """The few-shot `ids` of `subject`: from memory, from disk, or computed and written.

    Args:
        subject: the language model.
        ids: token ids of the few-shot.
        folder: where such files lie; `None` reads and writes none.
    """
    dtype = str(next(subject.model.parameters()).dtype)
    key = content_key("few_shot", version=_VERSION, model=subject.fingerprint, dtype=dtype, ids=ids)
    known = _ALIVE.get((key, id(subject.model)))
    if known is not None:
        return known
    path = None if folder is None else folder / f"{key}.safetensors"
    found = None if path is None else _read(path, subject, len(ids))
    if found is None:
        found = FewShot(*sharing_model(subject.model, ids))
        if path is not None:
            _write(path, found)
    _ALIVE[key, id(subject.model)] = found
    return found


def _read(path: Path, subject: Subject, n_tokens: int) -> FewShot | None:
    """What a file holds; `None` where there is none, or it is damaged."""
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            facts: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    n_blocks = len(tensors) // 2
    expected = [f"{kind}.{block}" for block in range(n_blocks) for kind in ("keys", "values")]
    if facts.get("checksum") != _checksum(tensors) or set(tensors) != set(expected):
        return None
    if any(tensor.shape[-2] != n_tokens for tensor in tensors.values()):
        return None
    try:
        way = SharedPrefixModel if facts.get("way") == SharedPrefixModel.way else CopiedPrefixModel
        model = way(subject.model)
    except UnsupportedAttention:
        return None
    device = subject.device
    states = [
        (tensors[f"keys.{block}"].to(device), tensors[f"values.{block}"].to(device))
        for block in range(n_blocks)
    ]
    return FewShot(model, states, facts.get("reason") or None)


def _write(path: Path, few_shot: FewShot) -> None:
    """Write a file whole or not at all; a folder that cannot be written costs only time."""
    tensors = {
        f"{kind}.{block}": tensor.detach().cpu().contiguous()
        for block, pair in enumerate(few_shot.states)
        for kind, tensor in zip(("keys", "values"), pair, strict=True)
    }
    facts = {
        "way": few_shot.model.way,
        "reason": few_shot.reason or "",
        "checksum": _checksum(tensors),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
        os.close(handle)
        try:
            save_file(tensors, partial, metadata=facts)
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError:
        return


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor: Any = tensors[name].contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()
