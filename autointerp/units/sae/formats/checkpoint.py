"""Files of strangers: nothing in them runs, and what is wrong with them is said in one line.

Pickles are opened with `weights_only=True`, NumPy archives with `allow_pickle=False`; no name in a
file is ever used as a path. Every tensor is taken by name together with the shape it must have.
"""

import json
import re
import reprlib
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from autointerp.records import AutointerpError

SUFFIXES = (".safetensors", ".npz", ".pt", ".pth")
"""How files of weights end."""

MOST_CONFIG_BYTES = {".json": 4_000_000, ".yaml": 200_000}
"""A YAML text can take minutes where a JSON text of its size takes none."""
MOST_INFLATION = 50
"""An archive that unpacks to more than this many times its size is refused."""

_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel = 80, 80, 2


@dataclass(frozen=True)
class Options:
    """What a user may know that some formats' files do not say."""

    k: int | None = None
    """Latents kept per token."""

    input_scale: float | None = None
    """What hidden states were multiplied by in training: sqrt(d_in) / mean norm."""


class Checkpoint:
    """One file of weights, with the small files beside it."""

    def __init__(self, file: Path, options: Options | None = None) -> None:
        self.file = file
        self.folder = file.parent
        self.options = options or Options()
        self._sizes_from = "the format"

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the tensors (and, in a pickle, of what else it holds).

        Raises:
            AutointerpError: where the file is damaged or holds more than tensors and plain values.
        """
        if self.file.suffix == ".safetensors":
            with self._refusing(), safe_open(self.file, "pt") as archive:
                return frozenset(archive.keys())
        return frozenset(self._loaded)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The parts of the file's path; a hub cache's `models--org--name` counts as `name`."""
        parts = self.file.absolute().parts
        return tuple(re.sub(r"^models--.*--", "", part) for part in parts)

    def has(self, name: str) -> bool:
        """Whether a file of this name lies beside the weights."""
        return (self.folder / name).is_file()

    def config(self, name: str, folder: Path | None = None) -> dict[str, Any]:
        """The mapping in a JSON or YAML file beside the weights.

        Raises:
            AutointerpError: where it is absent, too large, no text, or no mapping.
        """
        path = (folder or self.folder) / name
        try:
            most = MOST_CONFIG_BYTES[path.suffix]
            if path.stat().st_size > most:
                raise AutointerpError(
                    f"{path}: {path.stat().st_size} bytes; a config has at most {most}"
                )
            text = path.read_text(encoding="utf-8")
            found: Any = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except FileNotFoundError:
            raise AutointerpError(
                f"{self.file}: {name} is absent; it must lie in {path.parent}"
            ) from None
        except OSError as error:
            raise AutointerpError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise AutointerpError(f"{path}: damaged file ({_said(error)})") from error
        if not isinstance(found, dict):
            raise AutointerpError(f"{path}: no keys; it holds {_SHORT.repr(found)}")
        return {str(key): value for key, value in found.items()}

    def item(self, name: str) -> Any:
        """What a pickle holds under a name; `None` where it has no such entry."""
        return self._loaded.get(name)

    def sizes(self, name: str) -> tuple[int, int]:
        """Shape of a matrix that the file's other tensors must fit."""
        rows, columns = self.shape(name, 2)
        self._sizes_from = f"{name} [{rows}, {columns}]"
        return rows, columns

    def sizes_said(self, config_name: str, config: dict[str, Any], *keys: str) -> tuple[int, ...]:
        """Positive integers of a config that the tensors must fit."""
        sizes = tuple(self.count(config_name, config, key) for key in keys)
        self._sizes_from = f"{config_name} ({', '.join(keys)})"
        return sizes

    def tensor(self, name: str, *shape: int) -> Tensor:
        """A tensor in float32, of exactly this shape.

        Raises:
            AutointerpError: where it is absent, of another shape, or holds NaN or infinity.
        """
        raw = self._raw(name)
        if raw is None or tuple(raw.shape) != shape:
            raise self._wrong(name, raw, f"{self._sizes_from} says {list(shape)}")
        return self.finite(name, raw.to(torch.float32, copy=True))

    def finite(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor, if all of it are numbers."""
        if not bool(torch.isfinite(tensor).all()):
            raise AutointerpError(f"{self.file}: tensor {name} holds NaN or infinity")
        return tensor

    def integer(self, name: str) -> int:
        """An integer stored as a tensor of one element."""
        raw = self._raw(name)
        if raw is None or raw.numel() != 1 or raw.is_floating_point():
            raise self._wrong(name, raw, "it must be one integer")
        return int(raw)

    def integers(self, name: str) -> list[int]:
        """Integers stored as a tensor of one dimension."""
        raw = self._raw(name)
        if raw is None or raw.ndim != 1 or raw.is_floating_point():
            raise self._wrong(name, raw, "it must be a list of integers")
        return [int(value) for value in raw]

    def shape(self, name: str, n_dimensions: int) -> tuple[int, ...]:
        """Shape of a tensor, which must have this number of dimensions and elements at all."""
        raw = self._raw(name)
        if raw is None or raw.ndim != n_dimensions or 0 in raw.shape:
            raise self._wrong(name, raw, f"it must have {n_dimensions} dimensions")
        return tuple(raw.shape)

    def n_dimensions(self, name: str) -> int:
        """Number of dimensions of a tensor; -1 where there is none of that name."""
        raw = self._raw(name)
        return -1 if raw is None else raw.ndim

    def count(
        self, config_name: str, config: dict[str, Any], key: str, most: int | None = None
    ) -> int:
        """A positive integer of a config."""
        value = config.get(key)
        if type(value) is not int or value < 1 or (most is not None and value > most):
            limit = "a positive integer" if most is None else f"an integer from 1 to {most}"
            raise AutointerpError(
                f"{self.folder / config_name}: {key} is {_SHORT.repr(value)}, not {limit}"
            )
        return value

    def text(self, config_name: str, config: dict[str, Any], key: str) -> str | None:
        """A text of a config; `None` where it is absent or null."""
        value = config.get(key)
        if value is not None and not isinstance(value, str):
            raise AutointerpError(
                f"{self.folder / config_name}: {key} is {_SHORT.repr(value)}, not a text"
            )
        return value

    def refuse(self, problem: str) -> AutointerpError:
        """An error about this file."""
        return AutointerpError(f"{self.file}: {problem}")

    def _raw(self, name: str) -> Tensor | None:
        if self.file.suffix == ".safetensors":
            if name not in self.names:
                return None
            with self._refusing(), safe_open(self.file, "pt") as archive:
                return _plain(name, archive.get_tensor(name))
        found = self._loaded.get(name)
        if found is None:
            return None
        with self._refusing():
            return _plain(name, found)

    @cached_property
    def _loaded(self) -> dict[str, Any]:
        if self.file.suffix == ".safetensors":
            return {}
        with self._refusing():
            return _load_npz(self.file) if self.file.suffix == ".npz" else _load_torch(self.file)

    def _refusing(self) -> "_Refusing":
        return _Refusing(self.file)

    def _wrong(self, name: str, tensor: Tensor | None, must: str) -> AutointerpError:
        seen = "absent" if tensor is None else str(list(tensor.shape))
        return AutointerpError(f"{self.file}: tensor {name} is {seen}, but {must}")


class _Refusing:
    """Whatever a reader of archives raises on a damaged file becomes one line about the file.

    A malformed pickle, zip or header can make the libraries raise nearly anything.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, AutointerpError):
            raise AutointerpError(f"{self.file}: damaged file ({_said(error)})") from error


def _load_npz(file: Path) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MOST_INFLATION * file.stat().st_size:
        raise ValueError(f"{file.stat().st_size} bytes that would unpack to {unpacked}")
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _load_torch(file: Path) -> dict[str, Any]:
    try:
        found = torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
        )
    except Exception as error:
        if "weights_only" not in str(error):
            raise
        # The library's own advice at this place is to load the file with its code.
        asked = re.search(r"(GLOBAL|Unsupported \w+|operand)[^\n]{0,80}", str(error))
        raise ValueError(
            "a pickle that holds more than tensors and plain values, so it is not opened"
            + (f": {asked[0]}" if asked else "")
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}, not tensors by name")
    return {str(name): value for name, value in found.items()}


def _plain(name: str, value: Any) -> Tensor:
    """A tensor whose elements all lie in the file."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub" or not value.dtype.isnative:
            raise ValueError(f"{name} has elements of type {value.dtype}")
        value = torch.from_numpy(np.ascontiguousarray(value))
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}, not a tensor")
    value = value.detach()
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise ValueError(f"{name} is no plain tensor ({value.layout}, {value.device.type})")
    if value.is_complex():
        raise ValueError(f"{name} has elements of type {value.dtype}")
    # A view can pretend to any size: [1e6, 1e6] over a single element.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"{name} {list(value.shape)} is larger than what is stored of it")
    return value


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    # Some libraries raise a bare number or name.
    text = text if " " in text else f"{type(error).__name__} {text}".rstrip()
    return text if len(text) < 200 else f"{text[:197]}..."
