"""Loads subjects: where a model comes from, on which devices it goes and with which precision."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor

from autointerp.names import near_names
from autointerp.records import AutointerpError
from autointerp.subject import embedded
from autointerp.subject.model import Subject

DeviceMap = str | Mapping[str, str | int]
"""`auto`, `balanced`, `balanced_low_0`, `sequential`, or module path → device."""

_DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` takes CUDA, then MPS, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise AutointerpError(f"device {name!r} is not auto, cpu, cuda:N or mps")
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= n_cuda:
        has = f"{n_cuda} CUDA devices, from cuda:0 on" if n_cuda else "no CUDA device"
        raise AutointerpError(f"device {name!r} was asked for, but this machine has {has}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise AutointerpError(f"device {name!r} was asked for, but this machine has no MPS device")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`; `auto` is bfloat16 on CUDA and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in choices:
        raise AutointerpError(f"dtype {name!r} is not one of auto, {', '.join(choices)}")
    return choices[name]


def load_subject(
    name: str = embedded.EMBEDDED_NAME,
    *,
    device: str = "auto",
    dtype: str = "auto",
    device_map: DeviceMap | None = None,
    trust_remote_code: bool = False,
    random_weights: int | None = None,
) -> Subject:
    """Load a causal language model and its tokenizer.

    Args:
        name: `smollm2` (the embedded model), a folder in Hugging Face layout, or a hub id.
        device: `auto`, `cpu`, `cuda:N` or `mps`; where a model that fits one device goes.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        device_map: for a model larger than one device: `auto` fills the accelerators, then the
            machine's memory, then the disk; `balanced` and `sequential` as accelerate has them; or
            module path → device, `cpu` or `disk`, such as `{"model.layers.0": 0, …}`.
        trust_remote_code: run Python code that comes with the model; off unless asked for.
        random_weights: a seed: the model's shape and tokenizer, its weights drawn anew as they
            are before training. What is found in it was not learned (Heap et al. 2025).

    Raises:
        AutointerpError: where there is no such model, it is not a causal language model, or the
            device map names no device or module there is.
    """
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = choose_device(device)
    source: str | Path = (
        embedded.embedded_model_folder() if name == embedded.EMBEDDED_NAME else name
    )
    _check_causal(name, source, trust_remote_code)
    if random_weights is not None and device_map is not None:
        raise AutointerpError(
            f"model {name!r}: random_weights and device_map do not go together; use `device`"
        )
    spread = {} if device_map is None else _spread(device_map)
    # A bar for a second's work would tear a notebook's output apart.
    transformers.logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        if random_weights is None:
            model = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=choose_dtype(dtype, place),
                attn_implementation="sdpa",
                trust_remote_code=trust_remote_code,
                **spread,
            )
        else:
            model = _untrained(
                source, choose_dtype(dtype, place), random_weights, trust_remote_code
            )
            name = f"{name} (random weights, seed {random_weights})"
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise AutointerpError(
            f"model {name!r} could not be loaded: {_first_line(error)}"
        ) from error
    model = cast(Any, model)
    if device_map is None:
        model = model.to(place)
    else:
        place = _main_device(model, device_map)
    model.eval().requires_grad_(False)
    return Subject(name, model, tokenizer, place, weights_fingerprint(model))


def _untrained(source: str | Path, dtype: torch.dtype, seed: int, trust_remote_code: bool) -> Any:
    """A model of the same shape with the weights that its class starts from."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    # The library draws from the global generator: it is put back as it was.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=trust_remote_code
        )


def _spread(device_map: DeviceMap) -> dict[str, Any]:
    """What `from_pretrained` needs to spread a model; refuses devices that are not there."""
    if isinstance(device_map, str):
        if device_map not in _DEVICE_MAPS:
            raise AutointerpError(
                f"device_map {device_map!r} is not one of {', '.join(_DEVICE_MAPS)}, nor module "
                "paths with their devices; one device alone is written as `device:`"
            )
    else:
        for place in device_map.values():
            if place != "disk":
                choose_device(f"cuda:{place}" if isinstance(place, int) else place)
    # Weights in safetensors are read from where they are; only other formats are copied there.
    return {"device_map": device_map, "offload_folder": str(embedded.cache_folder() / "offload")}


def _main_device(model: Any, device_map: DeviceMap) -> torch.device:
    """Where token ids go in: the first accelerator of the map, else the CPU."""
    if not isinstance(device_map, str):
        modules = [name for name, _ in model.named_modules()]
        for name in device_map:
            if name not in modules:
                near = ", ".join(near_names(name, modules[1:]))
                raise AutointerpError(
                    f"device_map names {name!r}, but the model has no such module; near ones: "
                    f"{near}"
                )
    for place in getattr(model, "hf_device_map", {}).values():
        if place not in ("cpu", "disk"):
            return torch.device(place)
    return torch.device("cpu") if hasattr(model, "hf_device_map") else model.device


def _check_causal(name: str, source: str | Path, trust_remote_code: bool) -> None:
    """Refuse what is not a causal language model, before any weights are read."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise AutointerpError(
            f"no model at {name!r}: give `{embedded.EMBEDDED_NAME}`, a folder with config.json and "
            f"safetensors, or a Hugging Face id ({_first_line(error)})"
        ) from error
    architectures = list(getattr(config, "architectures", None) or [])
    causal = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    named_otherwise = architectures and not any(
        a.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))
        for a in architectures
    )
    if getattr(config, "is_encoder_decoder", False) or not causal or named_otherwise:
        found = ", ".join(architectures) or config.model_type
        raise AutointerpError(
            f"model {name!r} is not a causal language model (it is {found}): a subject must "
            "predict the next token, such as GPT-2, Llama, Qwen, Gemma or Pythia"
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300]


def weights_fingerprint(model: Any) -> str:
    """BLAKE2b of the configuration and of every weight's name, shape, dtype and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    config = {k: v for k, v in model.config.to_dict().items() if k not in _LOADING_FACTS}
    digest.update(repr(sorted(config.items(), key=lambda item: item[0])).encode())
    for name, tensor in _weights(model):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Every weight by name; those that wait on disk or in memory are fetched one by one."""
    from accelerate.utils import align_module_device

    for name, tensor in model.state_dict().items():
        if tensor.is_meta:
            path, _, leaf = name.rpartition(".")
            owner = model.get_submodule(path)
            with align_module_device(owner, torch.device("cpu")):
                yield name, getattr(owner, leaf)
        else:
            yield name, tensor


_LOADING_FACTS = {"_name_or_path", "transformers_version", "torch_dtype", "_attn_implementation"}
"""Configuration entries that say how a model was loaded, not what it is."""
