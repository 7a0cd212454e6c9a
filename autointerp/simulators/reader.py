"""A small model that reads a description and a text once, and tells the level of every token.

    h = norm(blocks([before | description | after | text])),   p_t = softmax(W h_t + b)

over the levels 0 … 9 and one more class: the description does not say. A text's level is read at
its own token: there are no slots and no few-shot. The blocks are the lower ones of a language
model with low-rank adapters (Hu et al. 2022), W ← W + B A; only adapters, norm and head are stored.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from autointerp.records import AutointerpError

N_LEVELS = 10
N_CLASSES = N_LEVELS + 1
"""The last class: the description does not say how strong the token is."""

WEIGHTS_FILE = "reader.safetensors"
SHAPE_FILE = "reader.json"

ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Projections of a block that get an adapter."""

_NEVER = -1e9
"""Added to the attention logit of what is not seen; finite, also in bfloat16."""


@dataclass(frozen=True)
class ReaderShape:
    """What a reader is made of besides its weights."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    base: str
    """The language model it was made from: `smollm2`, or a folder or hub id."""

    n_blocks: int
    """It is made of the base's first so many blocks, those of `left_out` excepted."""

    lora_rank: int
    lora_blocks_from: int
    """First block that is adapted; the ones before are as in the base."""

    before: str = "Pattern: "
    """Stands before the description."""

    after: str = "\nText: "
    """Stands between the description and the text."""

    left_out: tuple[int, ...] = ()
    """Blocks below `n_blocks` that it does without, for speed."""

    @property
    def blocks(self) -> list[int]:
        """Numbers, in the base, of the blocks it is made of."""
        return [block for block in range(self.n_blocks) if block not in self.left_out]

    @property
    def adapted(self) -> list[int]:
        """Places, among its own blocks, of those with adapters."""
        return [i for i, block in enumerate(self.blocks) if block >= self.lora_blocks_from]


_SHAPE = TypeAdapter(ReaderShape)


class Reader(nn.Module):
    """The base's lower blocks, adapted, and a head on its own norm."""

    def __init__(self, shape: ReaderShape, base: Any, width: int) -> None:
        """Put it together; `base` is a decoder without its head, of `shape.n_blocks` blocks."""
        super().__init__()
        self.shape = shape
        self.base = base
        self.head = nn.Linear(width, N_CLASSES)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, descriptions: Sequence[Sequence[int]], texts: Tensor) -> Tensor:
        """Logits of every token, for training: texts side by side under one description.

        Args:
            descriptions: [n_rows] token ids of each description with what stands around it.
            texts: [n_rows, n_texts, n_tokens] ids; all under the description of their row.

        Returns:
            [n_rows, n_texts, n_tokens, N_CLASSES].
        """
        n_rows, n_texts, n_tokens = texts.shape
        ids, positions, bias = packed(descriptions, texts)
        hidden = self.base(
            input_ids=ids,
            position_ids=positions,
            attention_mask=bias.to(next(self.base.parameters()).dtype),
            use_cache=False,
        ).last_hidden_state
        own = hidden[:, -n_texts * n_tokens :]
        return self.head(own).reshape(n_rows, n_texts, n_tokens, N_CLASSES)


def packed(descriptions: Sequence[Sequence[int]], texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a description, padded, and its texts, each of which sees the description and itself.

    Returns:
        ids and positions [n_rows, length], and what is added to attention logits
        [n_rows, 1, length, length]: 0 where seen.
    """
    n_rows, n_texts, n_tokens = texts.shape
    longest = max(len(row) for row in descriptions)
    head = texts.new_zeros(n_rows, longest)
    lengths = texts.new_tensor([len(row) for row in descriptions])
    for place, row in enumerate(descriptions):
        head[place, : len(row)] = torch.as_tensor(row)
    ids = torch.cat([head, texts.reshape(n_rows, -1)], 1)
    within = torch.arange(n_tokens, device=texts.device).repeat(n_texts)
    first = torch.arange(longest, device=texts.device)
    positions = torch.cat([first.expand(n_rows, -1), lengths[:, None] + within], 1)

    text = torch.arange(n_texts, device=texts.device).repeat_interleave(n_tokens)
    owner = torch.cat([torch.full((longest,), -1, device=texts.device), text])
    same = (owner[None, :] == -1) | (owner[None, :] == owner[:, None])
    length = len(owner)
    causal = torch.ones(length, length, dtype=torch.bool, device=texts.device).tril() & same
    real = torch.cat([first[None] < lengths[:, None], torch.ones_like(ids[:, longest:]).bool()], 1)
    seen = causal & real[:, None, :]
    seen |= torch.eye(length, dtype=torch.bool, device=texts.device)  # padding sees itself
    bias = torch.zeros(seen.shape, device=texts.device).masked_fill_(~seen, _NEVER)
    return ids, positions, bias[:, None]


def new_reader(shape: ReaderShape) -> Reader:
    """A reader before its training: the base's blocks with adapters that change nothing yet.

    Raises:
        AutointerpError: where peft is not installed, or the base has fewer blocks.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise AutointerpError(
            "training a simulator needs peft: pip install 'autointerp[simulator]'"
        ) from error

    base, width = _base(shape)
    config = LoraConfig(
        r=shape.lora_rank,
        lora_alpha=shape.lora_rank,
        target_modules=list(ADAPTED),
        layers_to_transform=shape.adapted,
        layers_pattern="layers",
    )
    return Reader(shape, get_peft_model(base, config), width)


def trainable(reader: Reader) -> dict[str, nn.Parameter]:
    """What is trained and stored: adapters, head and last norm, by the name in the file."""
    for name, parameter in reader.named_parameters():
        if name.endswith("base_model.model.norm.weight"):
            parameter.requires_grad_(True)
    blocks = reader.shape.blocks
    return {_stored(name, blocks): p for name, p in reader.named_parameters() if p.requires_grad}


def _stored(name: str, blocks: Sequence[int]) -> str:
    """`layers.2.self_attn.q_proj.A` (block 2 of the base), `norm.weight`, `head.bias`."""
    plain = name.removeprefix("base.base_model.model.")
    for letter in "AB":
        plain = plain.replace(f".lora_{letter}.default.weight", f".{letter}")
    parts = plain.split(".")
    if parts[0] == "layers":
        parts[1] = str(blocks[int(parts[1])])
    return ".".join(parts)


def begin_with(reader: Reader, folder: Path) -> None:
    """Give a reader that is to be trained the weights of one that was: of the blocks it has.

    Raises:
        AutointerpError: where the folder holds no reader, or one without some of these weights.
    """
    _, tensors = _read(folder)
    ours = trainable(reader)
    shapes = {name: tuple(parameter.shape) for name, parameter in ours.items()}
    _check(folder, shapes, {name: tensors[name] for name in tensors if name in shapes})
    with torch.no_grad():
        for name, parameter in ours.items():
            parameter.copy_(tensors[name])


def _base(shape: ReaderShape) -> tuple[Any, int]:
    from transformers import AutoModelForCausalLM

    from autointerp.subject.embedded import EMBEDDED_NAME, embedded_model_folder

    folder = embedded_model_folder() if shape.base == EMBEDDED_NAME else shape.base
    try:
        # "eager": with a mask of one's own the fused kernel of CPUs is several times slower.
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise AutointerpError(f"the base {shape.base!r} could not be loaded: {first}") from error
    base: Any = getattr(model, "model", None)
    if not hasattr(base, "layers"):
        raise AutointerpError(f"{shape.base!r} has no `model.layers`: take a Llama-like base")
    n_blocks = shape.n_blocks
    if not (0 <= shape.lora_blocks_from <= n_blocks and 1 <= n_blocks <= len(base.layers)):
        raise AutointerpError(
            f"n_blocks is {shape.n_blocks}, but {shape.base} has {len(base.layers)} blocks, "
            f"adapted from {shape.lora_blocks_from} on"
        )
    if not set(shape.left_out) < set(range(shape.n_blocks)):
        raise AutointerpError(
            f"left_out is {list(shape.left_out)}: name some of the blocks 0 to {shape.n_blocks - 1}"
        )
    kept: list[Any] = [base.layers[block] for block in shape.blocks]
    for place, layer in enumerate(kept):
        layer.self_attn.layer_idx = place  # where keys and values are kept
    base.layers = nn.ModuleList(kept)
    base.config.num_hidden_layers = len(base.layers)
    return base, base.config.hidden_size


def save_reader(reader: Reader, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write what was trained, and the shape, into a folder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().to(dtype).contiguous() for name, p in trainable(reader).items()}
    save_file(tensors, folder / WEIGHTS_FILE)
    _write_shape(reader.shape, folder)


def save_mean(first: Path, second: Path, share: float, output: Path) -> None:
    """Write the reader whose weights are the mean of two of one shape, tensor by tensor.

    Means of weights are often better than either end where both trainings have one beginning
    (Wortsman et al. 2022, "Model soups"). Adapters are averaged by factors.

    Args:
        share: of the second, between 0 and 1.

    Raises:
        AutointerpError: where a folder holds no reader, or the two are of different shapes.
    """
    from safetensors.torch import save_file

    if not 0 <= share <= 1:
        raise AutointerpError(f"the share of the second is {share}: give one between 0 and 1")
    (shape, ours), (other, theirs) = _read(first), _read(second)
    if shape != other:
        named = zip(asdict(shape).items(), asdict(other).values(), strict=True)
        differ = (f"{name} {mine} and {its}" for (name, mine), its in named if mine != its)
        raise AutointerpError(
            f"{str(first)!r} and {str(second)!r} have no mean: {', '.join(differ)}"
        )
    _check(second, {name: tuple(tensor.shape) for name, tensor in ours.items()}, theirs)
    mean = {
        name: torch.lerp(tensor.float(), theirs[name].float(), share).to(tensor.dtype).contiguous()
        for name, tensor in ours.items()
    }
    output.mkdir(parents=True, exist_ok=True)
    save_file(mean, output / WEIGHTS_FILE)
    _write_shape(shape, output)


def _write_shape(shape: ReaderShape, folder: Path) -> None:
    text = json.dumps(asdict(shape), indent=1)
    (folder / SHAPE_FILE).write_text(text + "\n", encoding="utf-8")


def load_reader(folder: Path) -> Reader:
    """Read what `save_reader` wrote, with its adapters added into the base's weights.

    Raises:
        AutointerpError: where the folder holds no reader, or tensors that do not fit it.
    """
    shape, tensors = _read(folder)
    base, width = _base(shape)
    reader = Reader(shape, base, width)
    _check(folder, _expected(reader), tensors)
    with torch.no_grad():
        for name, wide in tensors.items():
            tensor = wide.float()
            if name.startswith("head."):
                reader.get_parameter(name).copy_(tensor)
            elif name.endswith(".A"):
                weight = _module(reader, name.removesuffix(".A")).weight
                weight += tensors[f"{name[:-1]}B"].float() @ tensor
            elif name == "norm.weight":
                base.norm.weight.copy_(tensor)
    return reader.eval().requires_grad_(False)


def _read(folder: Path) -> tuple[ReaderShape, dict[str, Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        shape = _SHAPE.validate_json((folder / SHAPE_FILE).read_bytes())
        return shape, load_file(folder / WEIGHTS_FILE)
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"])) or SHAPE_FILE
        raise AutointerpError(
            f"{str(folder)!r} holds no simulator: {place}: {wrong['msg']}"
        ) from error
    except (OSError, SafetensorError) as error:
        raise AutointerpError(f"{str(folder)!r} holds no simulator: {error}") from error


def _module(reader: Reader, stored: str) -> Any:
    """The projection of which a stored name speaks: `layers.2.self_attn.q_proj`."""
    _, block, inside = stored.split(".", 2)
    return reader.base.layers[reader.shape.blocks.index(int(block))].get_submodule(inside)


def _expected(reader: Reader) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a folder must hold for this reader."""
    shape, base = reader.shape, reader.base
    found = {f"head.{name}": tuple(p.shape) for name, p in reader.head.named_parameters()}
    found["norm.weight"] = tuple(base.norm.weight.shape)
    for place in shape.adapted:
        for name, module in base.layers[place].named_modules():
            if name.rsplit(".", 1)[-1] in ADAPTED:
                n_out, n_in = module.weight.shape
                block = shape.blocks[place]
                found[f"layers.{block}.{name}.A"] = (shape.lora_rank, n_in)
                found[f"layers.{block}.{name}.B"] = (n_out, shape.lora_rank)
    return found


def _check(folder: Path, ours: dict[str, tuple[int, ...]], found: dict[str, Tensor]) -> None:
    theirs = {name: tuple(tensor.shape) for name, tensor in found.items()}
    wrong: Iterable[str] = (
        name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)
    )
    for name in sorted(wrong)[:1]:
        raise AutointerpError(
            f"{str(folder / WEIGHTS_FILE)!r}: {name} is {theirs.get(name, 'missing')}, the reader "
            f"of {SHAPE_FILE} has {ours.get(name, 'none of that name')}"
        )
    broken = [name for name, tensor in found.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise AutointerpError(f"{str(folder / WEIGHTS_FILE)!r}: {broken[0]} is not finite")
