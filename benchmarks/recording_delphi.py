"""eai-delphi on tokens and a dictionary that benchmarks/recording.py laid out: prints JSON.

    PYTHON_WITH_DELPHI benchmarks/recording_delphi.py FOLDER

Run by benchmarks/recording.py, in the Python that has delphi; imports nothing of autointerp. The
folder holds `tokens.npy` [n_sequences, length], `sae.safetensors` (encoder [n_latents, d_in],
decoder of the same shape, bias subtracted from the input) and `task.json`.

What is timed is delphi's own: `LatentCache.run` and `save_splits`, then records of a sample of the
latents by `LatentDataset`, each with its examples as strings, detokenised as delphi does it. Times
are CPU seconds of the whole process, all threads. Records of all latents are the sample's cost
times the number of latents that fire: building them all takes half an hour. `n_strings_of_a_window`
must be the window's length: with transformers 5 delphi's `batch_decode` gives one string for a
whole window, and its records are then not readable.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch


def resident() -> int:
    """Bytes this process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of all threads, and what the work gave."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def sparse_coder(path: Path, k: int) -> Any:
    """The dictionary as delphi has them."""
    from safetensors.torch import load_file
    from sparsify import SparseCoder, SparseCoderConfig

    weights = load_file(path)
    n_latents, d_in = weights["encoder"].shape
    sae = SparseCoder(d_in, SparseCoderConfig(num_latents=n_latents, k=k), device="cpu")
    with torch.no_grad():
        sae.encoder.weight.copy_(weights["encoder"])
        sae.W_dec.copy_(weights["decoder"])
        sae.b_dec.copy_(weights["b_dec"])
    return sae.requires_grad_(False)


def subject(folder: str) -> Any:
    """The model without its LM head, as delphi runs it."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder)
    facts = json.loads(Path(folder, "config.json").read_text())
    # Written by a later transformers than may run here: it keeps the base of the rotary
    # embedding elsewhere.
    theta = facts.get("rope_theta") or facts.get("rope_parameters", {}).get("rope_theta")
    if theta and not hasattr(config, "rope_parameters"):
        config.rope_theta = theta
    return AutoModel.from_pretrained(folder, config=config, dtype=torch.float32).eval()


def records(folder: Path, hook: str, tokenizer: Any, latents: list[int]) -> list[Any]:
    """delphi's records of some latents, examples chosen and detokenised."""
    from delphi.config import ConstructorConfig, SamplerConfig
    from delphi.latents import LatentDataset

    found = LatentDataset(
        folder,
        SamplerConfig(),
        # 200 windows are asked for by default, which few latents have in a short corpus.
        ConstructorConfig(min_examples=1),
        tokenizer=tokenizer,
        modules=[hook],
        latents={hook: torch.tensor(latents)},
    )
    return list(found)


def main() -> None:
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text())
    torch.set_num_threads(task["threads"])
    import transformers
    from delphi.config import CacheConfig
    from delphi.latents import LatentCache
    from delphi.sparse_coders.load_sparsify import sae_dense_latents
    from transformers import PreTrainedTokenizerFast

    tokens = torch.from_numpy(np.load(folder / "tokens.npy").astype(np.int64))
    model = subject(task["model"])
    sae = sparse_coder(folder / "sae.safetensors", task["k"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(task["model"], "tokenizer.json")))
    hook, cached = f"layers.{task['block']}", folder / "latents"
    encode = {hook: partial(sae_dense_latents, sae=sae)}
    with torch.no_grad():
        model(tokens[:1])
    before = resident()
    cache = LatentCache(model, encode, batch_size=task["batch_sequences"])
    cache_cpu, _ = cpu_seconds(lambda: cache.run(tokens.numel(), tokens))
    save_cpu, _ = cpu_seconds(lambda: cache.save_splits(5, cached))
    cache.save_config(cached, CacheConfig(), task["model"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    firing = cache.hookpoint_firing_counts[hook].nonzero().flatten()
    generator = torch.Generator().manual_seed(0)
    chosen = firing[torch.randperm(len(firing), generator=generator)[: task["latents"]]]
    chosen_list = sorted(chosen.tolist())
    # The loading of all splits is paid once, whatever the number of latents.
    load_cpu, _ = cpu_seconds(lambda: records(cached, hook, tokenizer, chosen_list[:1]))
    build_cpu, built = cpu_seconds(lambda: records(cached, hook, tokenizer, chosen_list))
    per_latent = max(0.0, build_cpu - load_cpu) / max(1, len(chosen_list) - 1)
    shown = next((r.train[0].str_tokens for r in built if r.train), [])
    n_tokens = len(tokens) // task["batch_sequences"] * task["batch_sequences"] * tokens.shape[1]
    print(
        json.dumps(
            {
                "transformers": transformers.__version__,
                "n_tokens": n_tokens,
                "n_values_kept": len(cache.cache.latent_activations[hook]),
                "n_latents_that_fire": len(firing),
                "n_latents_built": len(built),
                "n_strings_of_a_window": len(shown),
                "cache_cpu_seconds": cache_cpu,
                "save_cpu_seconds": save_cpu,
                "record_cpu_seconds_a_latent": per_latent,
                "all_records_cpu_seconds": cache_cpu
                + save_cpu
                + load_cpu
                + per_latent * len(firing),
                "peak_extra_bytes": peak,
                "bytes_on_disk": sum(p.stat().st_size for p in cached.rglob("*") if p.is_file()),
            }
        )
    )


if __name__ == "__main__":
    main()
