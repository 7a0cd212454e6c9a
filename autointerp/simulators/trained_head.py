"""A simulator that was trained to be one: description and text in, the level of every token out.

    h = model([before | description | between | text]),   p_t = softmax(W h_t + b)[0 … K],
    E_t = sum_k k p_tk,   K = 10

read in one pass, at the text's own tokens: no few-shot, no slots, nothing generated (Choi et al.
2024, whose simulators have 11 levels). The text goes in as the tokens that the subject saw, so the
model must have the subject's own tokenizer.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autointerp.records import AutointerpError, Simulation, content_key
from autointerp.simulators.base import Simulator

SETTINGS_FILE = "simulator.json"
HEAD_FILE = "head.safetensors"

_VERSION = 1
"""Raise when the same model gives other predictions."""

MAX_FOREIGN_SHARE = 0.05
"""More tokens than this that are not in the vocabulary: the text was cut by another tokenizer."""

_BROKEN = "\ufffd"


@dataclass(frozen=True)
class TrainedSettings:
    """How a trained simulator is prompted: `simulator.json` in its folder, every field optional."""

    before: str = "## Neuron Description: "
    """Stands before the description."""

    between: str = "\n\n ## Input: "
    """Stands between the description and the text."""

    n_levels: int = 11
    """Classes: levels from 0 to `n_levels` - 1."""


@dataclass(frozen=True)
class TrainedModel:
    """A model with a head of levels."""

    name: str
    backbone: Any
    """A transformers model without its head: its last hidden states are what the head reads."""

    weight: Tensor
    """[n_levels, d_model]."""

    bias: Tensor | None
    """[n_levels]."""

    tokenizer: Any
    settings: TrainedSettings
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.weight.device

    @property
    def max_tokens(self) -> int | None:
        """Tokens it can read at once."""
        return getattr(self.backbone.config.get_text_config(), "max_position_embeddings", None)

    def logits(self, hidden: Tensor) -> Tensor:
        """[…, d_model] → [..., n_levels] float32."""
        found = hidden.to(self.weight) @ self.weight.T
        return (found if self.bias is None else found + self.bias).float()


class TrainedHead(Simulator):
    """Simulates with a trained model; see `load_trained` for what its folder holds."""

    name = "trained_head"

    def __init__(self, model: TrainedModel, *, batch_tokens: int | None = None) -> None:
        """Prepare a simulator.

        Args:
            model: of `load_trained`.
            batch_tokens: tokens of a forward pass, padding included; 2,048 on a CPU and 16,384
                elsewhere if left out. Halved where memory runs out.

        Raises:
            AutointerpError: where `batch_tokens` is not positive.
        """
        default = 2_048 if model.device.type == "cpu" else 16_384
        self.batch_tokens = default if batch_tokens is None else batch_tokens
        if self.batch_tokens < 1:
            raise AutointerpError(f"batch_tokens must be positive, not {self.batch_tokens}")
        self.model = model
        self.n_levels = model.settings.n_levels
        accepted = inspect.signature(model.backbone.forward).parameters
        self._no_cache = {"use_cache": False} if "use_cache" in accepted else {}
        self.fingerprint = content_key(
            "simulator", name=self.name, version=_VERSION, model=model.fingerprint
        )

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Predict every token of every sequence under one explanation; see `Simulator`."""
        return self.simulate_many([(explanation, sequences)])[0]

    @torch.inference_mode()
    def simulate_many(
        self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]
    ) -> list[list[Simulation]]:
        """Simulate several explanations in shared batches; see `Simulator`.

        A token that is a part of a character, or not in the vocabulary, is missing.

        Raises:
            AutointerpError: where the texts were cut by another tokenizer, a prompt is longer than
                the model's context, or one alone does not fit into memory.
        """
        rows = [
            _Row(job, place, self._start(explanation), *self._text_ids(tokens))
            for job, (explanation, sequences) in enumerate(jobs)
            for place, tokens in enumerate(sequences)
        ]
        self._check(rows, jobs)
        results: list[list[Simulation]] = [[_nothing()] * len(texts) for _, texts in jobs]
        waiting = sorted((row for row in rows if row.text), key=len)
        while waiting:
            batch = waiting[-max(1, self.batch_tokens // len(waiting[-1])) :]
            simulations = self._try(batch)
            if simulations is None:
                self.batch_tokens = len(waiting[-1]) * (len(batch) // 2)
                continue
            del waiting[-len(batch) :]
            for row, simulation in zip(batch, simulations, strict=True):
                results[row.job][row.place] = simulation
        return results

    def count_tokens(self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> int:
        """Tokens the model will read for `jobs`, padding not counted."""
        return sum(
            len(self._start(text)) * len(sequences) + sum(map(len, sequences))
            for text, sequences in jobs
        )

    def _start(self, explanation: str) -> list[int]:
        """Ids of what stands before a text."""
        settings, tokenizer = self.model.settings, self.model.tokenizer
        text = settings.before + explanation + settings.between
        # What looks like a special token in a description is text like any other.
        encoded = tokenizer(text, split_special_tokens=True)["input_ids"]
        ends = tokenizer.eos_token_id
        return encoded[:-1] if encoded[-1] == ends != tokenizer.bos_token_id else list(encoded)

    def _text_ids(self, tokens: Sequence[str]) -> tuple[list[int], list[bool]]:
        """Ids of a text's tokens, and which of them are certain."""
        known = [self._ids.get(token) for token in tokens]
        ids = [self._unknown_id if i is None else i for i in known]
        certain = [i is not None and _BROKEN not in t for i, t in zip(known, tokens, strict=True)]
        return ids, certain

    @cached_property
    def _ids(self) -> dict[str, int]:
        """Token text → id; of several with one text the first that is no special token."""
        from autointerp.recording.corpus import vocabulary

        tokenizer = self.model.tokenizer
        special = set(tokenizer.all_special_ids)
        texts = list(enumerate(vocabulary(tokenizer)))
        # Later entries of a dictionary replace earlier ones: the first comes last.
        ordered = [*((i, t) for i, t in texts if i in special)]
        ordered += [(i, t) for i, t in reversed(texts) if i not in special]
        return {text: i for i, text in ordered}

    @cached_property
    def _unknown_id(self) -> int:
        """Stands in for a token whose id is not known."""
        ids = self.model.tokenizer(_BROKEN, add_special_tokens=False)["input_ids"]
        return int(ids[0]) if ids else 0

    def _check(
        self, rows: Sequence["_Row"], jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]
    ) -> None:
        texts = [token for _, sequences in jobs for tokens in sequences for token in tokens]
        foreign = [t for t in texts if t not in self._ids and _BROKEN not in t]
        if len(foreign) > MAX_FOREIGN_SHARE * len(texts):
            raise AutointerpError(
                f"{self.model.name!r} reads the tokens of its own subject, but {len(foreign)} of "
                f"{len(texts)} tokens, such as {foreign[0]!r}, are not in its vocabulary: take "
                "another simulator for this subject"
            )
        longest, limit = max(map(len, rows), default=0), self.model.max_tokens
        if limit is not None and longest > limit:
            raise AutointerpError(
                f"a description and a text have {longest} tokens, but {self.model.name!r} reads at "
                f"most {limit}: use shorter windows"
            )

    def _try(self, batch: Sequence["_Row"]) -> list[Simulation] | None:
        """The simulations of a batch; `None` where memory ran out."""
        try:
            return self._read(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise AutointerpError(
                    f"{self.model.device} has no memory for one text of {len(batch[0])} tokens: "
                    "use shorter windows or a smaller simulator"
                ) from error
        return None

    def _read(self, batch: Sequence["_Row"]) -> list[Simulation]:
        longest = max(map(len, batch))
        ids = torch.tensor([row.ids + [0] * (longest - len(row)) for row in batch])
        real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
        device = self.model.device
        hidden = self.model.backbone(
            input_ids=ids.to(device), attention_mask=real.to(device), **self._no_cache
        ).last_hidden_state
        found: list[Simulation] = []
        for row, states in zip(batch, hidden, strict=True):
            probabilities = self.model.logits(states[len(row.start) : len(row)]).softmax(-1)
            levels = torch.arange(self.n_levels, dtype=torch.float32, device=device)
            known = np.array(row.certain)
            expected = (probabilities @ levels).cpu().numpy().astype(np.float32)
            found.append(Simulation(expected, known, known.astype(np.float32)))
        return found


@dataclass(frozen=True)
class _Row:
    """One text under one description."""

    job: int
    place: int
    start: list[int]
    """Ids of everything before the text."""

    text: list[int]
    certain: list[bool]
    """[n_tokens] whether a token's id is the subject's own."""

    @property
    def ids(self) -> list[int]:
        return self.start + self.text

    def __len__(self) -> int:
        return len(self.start) + len(self.text)


def load_trained(folder: str | Path, *, device: str = "auto", dtype: str = "auto") -> TrainedModel:
    """Read a trained simulator.

    The folder holds a model in Hugging Face layout with its tokenizer, and its head in one of three
    forms: a token classifier with a class per level; a causal language model whose first
    `n_levels` logits are the levels; or any model and, beside it, `head.safetensors` with `weight`
    [n_levels, d_model] and, where there is one, `bias` [n_levels]. `simulator.json` says how it is
    prompted (`TrainedSettings`).

    Args:
        folder: where it is.
        device: `auto`, `cpu`, `cuda:N` or `mps`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.

    Raises:
        AutointerpError: where there is no such model, or its head does not fit.
    """
    import transformers
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    from autointerp.subject.load import choose_device, choose_dtype, weights_fingerprint

    place = Path(folder).expanduser()
    settings = _settings(place)
    on = choose_device(device)
    transformers.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(place)
        own_head = (place / HEAD_FILE).exists()
        kind = AutoModel if own_head else _kind(config.architectures, place)
        model: Any = kind.from_pretrained(place, dtype=choose_dtype(dtype, on))
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AutointerpError(f"simulator {str(place)!r} could not be loaded: {text}") from error
    model = model.to(on).eval().requires_grad_(False)
    head = _read_head(place) if own_head else _head_of(model)
    weight, bias = _first_levels(head, settings.n_levels, model.config.get_text_config(), place)
    weight = weight.to(on, next(model.parameters()).dtype)
    loaded = TrainedModel(
        name=str(folder),
        backbone=model if own_head else model.base_model,
        weight=weight,
        bias=None if bias is None else bias.to(weight),
        tokenizer=tokenizer,
        settings=settings,
        fingerprint=content_key(
            "trained simulator",
            model=weights_fingerprint(model),
            head=[part.float().tolist() for part in (weight, bias) if part is not None],
            tokenizer=tokenizer.backend_tokenizer.to_str(),
            settings=asdict(settings),
        ),
    )
    if not own_head:
        _check_head(model, loaded)
    return loaded


def _settings(folder: Path) -> TrainedSettings:
    file = folder / SETTINGS_FILE
    if not file.exists():
        return TrainedSettings()
    try:
        settings = TrainedSettings(**json.loads(file.read_text(encoding="utf-8")))
        if not (isinstance(settings.before, str) and isinstance(settings.between, str)):
            raise TypeError("before and between are texts")
        if type(settings.n_levels) is not int or not 2 <= settings.n_levels <= 1000:
            raise ValueError(f"n_levels is a number from 2 to 1000, not {settings.n_levels!r}")
    except (OSError, ValueError, TypeError) as error:
        raise AutointerpError(f"{str(file)!r} cannot be used: {error}") from error
    return settings


def _kind(architectures: Sequence[str] | None, folder: Path) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

    name = next(iter(architectures or ()), "")
    if name.endswith("ForTokenClassification"):
        return AutoModelForTokenClassification
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return AutoModelForCausalLM
    raise AutointerpError(
        f"simulator {str(folder)!r} is a {name or 'model of no known kind'}: a trained simulator "
        f"is a token classifier, a causal language model, or any model with {HEAD_FILE}"
    )


def _read_head(folder: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / HEAD_FILE)
    except (OSError, SafetensorError) as error:
        raise AutointerpError(f"{str(folder / HEAD_FILE)!r} cannot be read: {error}") from error


def _head_of(model: Any) -> Mapping[str, Tensor]:
    """The weights of a model's own head."""
    head = model.get_output_embeddings()
    for name in ("score", "classifier"):
        head = head if head is not None else getattr(model, name, None)
    found: dict[str, Tensor] = {}
    if isinstance(head, torch.nn.Module):
        found = {name: value for name, value in head.state_dict().items() if value is not None}
    return found


def _first_levels(
    head: Mapping[str, Tensor], n_levels: int, config: Any, folder: Path
) -> tuple[Tensor, Tensor | None]:
    """The rows of a head that are levels."""
    weight, bias = head.get("weight"), head.get("bias")
    if weight is None or weight.ndim != 2 or weight.shape[1] != config.hidden_size:
        shape = None if weight is None else list(weight.shape)
        raise AutointerpError(
            f"the head of {str(folder)!r} has a weight of shape {shape}, expected "
            f"[{n_levels}, {config.hidden_size}]"
        )
    if len(weight) < n_levels or (bias is not None and len(bias) != len(weight)):
        raise AutointerpError(
            f"the head of {str(folder)!r} has {len(weight)} classes, but {SETTINGS_FILE} speaks of "
            f"{n_levels} levels"
        )
    return weight[:n_levels], None if bias is None else bias[:n_levels]


@torch.inference_mode()
def _check_head(model: Any, loaded: TrainedModel) -> None:
    """Compare with the model's own logits on a few tokens: heads differ by architecture."""
    ids = torch.tensor([[1, 2, 3, 4]], device=loaded.device)
    own = model(input_ids=ids).logits[..., : loaded.settings.n_levels].float()
    ours = loaded.logits(loaded.backbone(input_ids=ids).last_hidden_state)
    difference = float((own - ours).abs().max())
    if not difference <= 0.05 * (1 + float(own.abs().max())):
        raise AutointerpError(
            f"the logits of {loaded.name!r} are not its head applied to its last hidden states "
            f"(they differ by {difference:.3g}): it cannot be read as a trained simulator"
        )


def _nothing() -> Simulation:
    """The simulation of a sequence without tokens."""
    return Simulation(np.zeros(0, np.float32), np.zeros(0, bool), np.zeros(0, np.float32))
