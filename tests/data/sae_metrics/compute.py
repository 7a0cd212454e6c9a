"""Computes numbers.json with SAELens and dictionary_learning; see ../README.md.

python compute.py     # needs sae-lens 6.54.12, transformer-lens, dictionary-learning, nnsight
"""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from dictionary_learning.evaluation import evaluate, loss_recovered
from dictionary_learning.utils import load_dictionary
from nnsight import LanguageModel
from sae_lens import SAE
from sae_lens.evals import (
    get_downstream_reconstruction_metrics,
    get_sparsity_and_variance_metrics,
)
from sae_lens.load_model import HookedProxyLM
from sae_lens.training.activation_scaler import ActivationScaler
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
BATCHES = 3
NAMES = ("relu", "topk")


def main() -> None:
    tokens = torch.tensor(json.loads((HERE / "tokens.json").read_text()))
    found = {
        name: {
            "saelens": by_saelens(HERE / name / "saelens", tokens),
            "dictionary_learning": by_dictionary_learning(
                HERE / name / "dictionary_learning", tokens
            ),
        }
        for name in NAMES
    }
    (HERE / "numbers.json").write_text(json.dumps(found, indent=2) + "\n")


@torch.no_grad()
def by_saelens(folder: Path, tokens: torch.Tensor) -> dict:
    model = AutoModelForCausalLM.from_pretrained(HERE / "subject").eval()
    hooked = HookedProxyLM(model, AutoTokenizer.from_pretrained(HERE / "subject"))
    sae = SAE.load_from_disk(str(folder))
    sae.cfg.metadata.hook_name = "model.layers.1"

    def store():
        parts = iter(tokens.chunk(BATCHES))
        return SimpleNamespace(get_batch_tokens=lambda _: next(parts))

    common = {"n_batches": BATCHES, "eval_batch_size_prompts": len(tokens) // BATCHES}
    metrics, of_latents = get_sparsity_and_variance_metrics(
        sae, hooked, store(), ActivationScaler(), compute_l2_norms=True,
        compute_sparsity_metrics=True, compute_variance_metrics=True,
        compute_featurewise_density_statistics=True, model_kwargs={}, **common,
    )  # fmt: skip
    losses = get_downstream_reconstruction_metrics(
        sae, hooked, store(), ActivationScaler(), compute_kl=True, compute_ce_loss=True, **common
    )
    return metrics | losses | {"feature_density": of_latents["feature_density"]}


@torch.no_grad()
def by_dictionary_learning(folder: Path, tokens: torch.Tensor) -> dict:
    """All tokens as one batch: it averages what it finds over batches, variances too."""
    dictionary, _ = load_dictionary(str(folder), "cpu")
    plain = AutoModelForCausalLM.from_pretrained(HERE / "subject").eval()
    hidden = []
    handle = plain.model.layers[1].register_forward_hook(
        lambda _m, _a, output: hidden.append(output[0] if isinstance(output, tuple) else output)
    )
    plain(tokens)
    handle.remove()
    found = evaluate(dictionary, iter([hidden[0].flatten(0, 1)]))
    model = LanguageModel(plain, tokenizer=AutoTokenizer.from_pretrained(HERE / "subject"))
    model.to("cpu")
    losses = loss_recovered(tokens, model, model.model.layers[1], dictionary)
    original, reconstructed, zero = (float(loss) for loss in losses)
    return found | {
        "loss_original": original,
        "loss_reconstructed": reconstructed,
        "loss_zero": zero,
        "frac_recovered": (reconstructed - zero) / (original - zero),
    }


if __name__ == "__main__":
    main()
