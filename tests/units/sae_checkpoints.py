"""The checkpoints of tests/data/sae_formats, and what is needed to damage copies of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

FORMATS = Path(__file__).parent.parent / "data" / "sae_formats"
NAMES = sorted(folder.name for folder in FORMATS.iterdir() if folder.is_dir())


def meta(name: str) -> dict[str, Any]:
    """What its owner's class was and where the checkpoint lies."""
    return json.loads((FORMATS / name / "meta.json").read_text())


def checkpoint(name: str) -> Path:
    """The checkpoint's folder or file, as its owner names it."""
    return FORMATS / name / meta(name)["checkpoint"]


def io(name: str) -> dict[str, torch.Tensor]:
    """Input and the owner's own outputs."""
    return load_file(FORMATS / name / "io.safetensors")


def copy_of(name: str, place: Path) -> Path:
    """A copy of the checkpoint in a folder of the same name."""
    shutil.copytree(FORMATS / name, place / name)
    return place / name / meta(name)["checkpoint"]


def set_config(path: Path, **changes: object) -> None:
    """Change keys of a JSON file; `None` stays null."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(path: Path, **changes: Any) -> None:
    """Replace tensors of a safetensors or torch file; `None` removes one."""
    load, save = (
        (load_file, save_file)
        if path.suffix == ".safetensors"
        else (lambda p: torch.load(p, weights_only=True), torch.save)
    )
    changed = load(path) | changes
    kept = {k: v for k, v in changed.items() if v is not None}
    save({k: v.contiguous() if torch.is_tensor(v) else v for k, v in kept.items()}, path)
