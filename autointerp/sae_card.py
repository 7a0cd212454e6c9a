"""`autointerp sae card`: what a dictionary is and how good it is, in one page for its folder."""

import json
from pathlib import Path
from typing import Any

from autointerp.config import SaeTrainConfig, load_config
from autointerp.records import AutointerpError, UsageError
from autointerp.units.sae.load import load_sae
from autointerp.units.sae.model import SparseAutoencoder

_MEASURED = (
    ("latents", "n_latents", "{:,}"),
    ("L0", "l0", "{:.1f}"),
    ("explained variance", "explained_variance", "{:.4f}"),
    ("loss recovered", "loss_recovered", "{:.4f}"),
    ("KL recovered", "kl_recovered", "{:.4f}"),
    ("dead", "dead_share", "{:.1%}"),
    ("decoder cosine", "max_decoder_cosine", "{:.2f}"),
)
_BASELINES = {"pca": "principal components", "random": "random decoder, TopK"}


def card(path: str, evaluation: Path, config: Path | None = None) -> str:
    """A dictionary's card in Markdown.

    Args:
        path: the dictionary's folder, as `autointerp sae train` left it.
        evaluation: what `autointerp sae eval --output` wrote of it and of what stands beside it:
            the folder, or its `evaluation.json`.
        config: the training's, shown as it is.

    Raises:
        UsageError: where the evaluation is not one, or it or the config is not of this dictionary.
    """
    sae = load_sae(path)
    rows = _rows(evaluation)
    own = [row for row in rows if row.get("fingerprint") == sae.fingerprint()]
    if not own:
        names = ", ".join(str(row.get("name")) for row in rows)
        raise UsageError(
            f"{evaluation} has no numbers of {path}, only of {names}: measure it with "
            f"`autointerp sae eval {path} … --output FOLDER`"
        )
    if config is not None:
        _check_config(config, sae)
    training = _training(Path(path))
    ordered = [*own, *(row for row in rows if row not in own)]
    sections = [_facts(sae, own[0], training), _made(training, config), _measured(ordered)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _check_config(config: Path, sae: SparseAutoencoder) -> None:
    """A card must not show the config of another training."""
    given = load_config(config, SaeTrainConfig)
    widths = [each.n_latents for each in given.dictionaries.values()]
    if sae.hook_in not in (None, given.hook_point) or sae.n_latents not in widths:
        raise UsageError(
            f"--config {config} trains {', '.join(map(str, widths))} latents at "
            f"{given.hook_point}: not this dictionary, of {sae.n_latents} at {sae.hook_in}"
        )


def _rows(evaluation: Path) -> list[dict[str, Any]]:
    file = evaluation / "evaluation.json" if evaluation.is_dir() else evaluation
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file}: expected the evaluation.json of `autointerp sae eval --output` ({error})"
        ) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{file}: expected a list of dictionaries' numbers")
    return rows


def _training(folder: Path) -> dict[str, Any]:
    """What a training of ours left beside the weights; nothing of others' dictionaries."""
    file = folder / "metrics.json"
    if not file.exists():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise AutointerpError(f"{file} is damaged: {error}") from error


def _facts(sae: SparseAutoencoder, row: dict[str, Any], training: dict[str, Any]) -> str:
    details = sae.metadata.get("training_architecture_details", {})
    architecture = details.get("architecture", sae.architecture)
    reads = f"`{row['hook_in']}`, width {sae.d_in}"
    if row["hook_out"] != row["hook_in"]:
        reads += f"; reconstructs `{row['hook_out']}`"
    facts = {
        "subject": sae.metadata.get("model_name"),
        "reads": reads,
        "latents": f"{sae.n_latents:,}, {architecture}" + (f", k = {sae.k}" if sae.k else ""),
        "training tokens": _number(training.get("training_tokens")),
        "of distinct tokens": _number(training.get("n_distinct_training_tokens")),
        "documents": _number(training.get("n_training_documents")),
        "documents held out": _number(training.get("n_held_out_documents")),
        "documents excluded": _number(training.get("n_excluded_documents")),
        "context": sae.metadata.get("context_size"),
        "tokens left out": _left_out(training),
        "fingerprint": f"`{sae.fingerprint()}`",
    }
    lines = [f"| {name} | {value} |" for name, value in facts.items() if value is not None]
    return "\n".join([f"# Sparse autoencoder `{row['name']}`", "", "| | |", "|---|---|", *lines])


def _left_out(training: dict[str, Any]) -> str | None:
    factor = training.get("max_norm")
    return None if factor is None else f"longer than {factor:g} times the median"


def _number(value: Any) -> str | None:
    return None if value is None else f"{value:,}"


def _made(training: dict[str, Any], config: Path | None) -> str:
    if config is None:
        return ""
    try:
        text = config.read_text(encoding="utf-8").rstrip()
    except (OSError, ValueError) as error:
        raise UsageError(f"--config {config}: {error}") from error
    command = f"```sh\nautointerp sae train {config.name}\n```"
    lines = ["## Made by", "", command, "", f"```yaml\n{text}\n```"]
    if training:
        lines += ["", "`training_documents.txt` has the hash of every document it was trained on."]
    return "\n".join(lines)


def _measured(rows: list[dict[str, Any]]) -> str:
    """The dictionary first, then what stands beside it."""
    header = ["", *(title for title, _, _ in _MEASURED)]
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * len(_MEASURED) + "|"]
    for number, row in enumerate(rows):
        name = _BASELINES.get(str(row["name"]), f"`{row['name']}`")
        cells = [_cell(row.get(key), pattern) for _, key, pattern in _MEASURED]
        lines.append("| " + " | ".join([f"**{name}**" if not number else name, *cells]) + " |")
    tokens = f"{rows[0]['n_tokens']:,}"
    loss = rows[0].get("loss_tokens")
    on = f"On {tokens} tokens that none of them was trained on"
    on += f" (loss and KL: {loss:,})." if loss else "; loss and KL were not measured."
    return "\n".join(["## Measured", "", on, "", *lines])


def _cell(value: Any, pattern: str) -> str:
    return "–" if value is None else pattern.format(value)
