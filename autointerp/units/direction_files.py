"""Directions on disk: a file that a user names, and a run's own fitted ones."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from autointerp.records import SCHEMA_VERSION, AutointerpError
from autointerp.units.directions import DirectionSet


def read_directions(path: str | Path, width: int, tensor: str | None = None) -> Tensor:
    """The directions in a safetensors file; nothing else is opened, nothing in it can run.

    Shapes are checked before numbers are read, so that a wrong file costs nothing.

    Args:
        path: the file.
        width: channels that a direction must have.
        tensor: name of the tensor; may be left out where the file holds one.

    Returns:
        [n, width] float32, of the lengths found.

    Raises:
        AutointerpError: where the file is missing or damaged, holds several tensors and none is
            named, or the tensor is not a finite [n, width] matrix of floats without zero rows.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise AutointerpError(f"directions {str(path)!r}: there is no such file")
    try:
        with safe_open(place, framework="pt") as file:
            name = _chosen(str(path), list(file.keys()), tensor)
            part = file.get_slice(name)
            shape, kind = list(part.get_shape()), str(part.get_dtype())
            if len(shape) != 2 or shape[1] != width or not shape[0]:
                raise AutointerpError(
                    f"directions {str(path)!r}: tensor {name!r} has shape {shape}; expected [n, "
                    f"{width}], one direction a row with the {width} channels of its hook point"
                )
            if kind not in ("F64", "F32", "F16", "BF16"):
                raise AutointerpError(
                    f"directions {str(path)!r}: tensor {name!r} holds {kind}; expected F32, F16, "
                    "BF16 or F64"
                )
            rows = file.get_tensor(name).float()
    except (SafetensorError, OSError, ValueError) as error:
        raise AutointerpError(
            f"directions {str(path)!r}: not a safetensors file, or a damaged one ({error})"
        ) from error
    if not bool(rows.isfinite().all()):
        raise AutointerpError(
            f"directions {str(path)!r}: tensor {name!r} holds NaN or values beyond float32"
        )
    silent = (rows == 0).all(dim=1).nonzero().flatten().tolist()
    if silent:
        raise AutointerpError(
            f"directions {str(path)!r}: row {silent[0]} of {name!r} is all zeros ({len(silent)} "
            "such rows): no direction"
        )
    return rows


def _chosen(path: str, names: list[str], tensor: str | None) -> str:
    if tensor is None and len(names) == 1:
        return names[0]
    if tensor in names:
        return tensor
    found = ", ".join(sorted(names)[:8]) or "none"
    wanted = "set `tensor:` to one of them" if tensor is None else f"there is no {tensor!r}"
    raise AutointerpError(f"directions {path!r}: the file's tensors are: {found}; {wanted}")


def save_fitted(path: Path, found: DirectionSet, key: str) -> None:
    """Keep fitted directions in the run's folder, whole or not at all."""
    parts = {"rows": found.rows, "centre": found.centre, "variance": found.variance}
    tensors = {name: t.cpu().contiguous() for name, t in parts.items() if t is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    # One entry: the order of several is not the same in every process, and so would the bytes be.
    save_file(tensors, partial, {"autointerp": _stamp(key)})
    partial.replace(path)


def load_fitted(path: Path, key: str) -> DirectionSet | None:
    """What `save_fitted` kept under the same key; `None` where there is no such file."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("autointerp") != _stamp(key):
                return None
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError):
        # Damaged: fitted anew, with the same result.
        return None
    return DirectionSet(found.get("rows"), found.get("centre"), found.get("variance"))


def _stamp(key: str) -> str:
    return json.dumps({"key": key, "schema_version": SCHEMA_VERSION})
