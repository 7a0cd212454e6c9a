"""`autointerp sae …`: train, eval, convert."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from autointerp.sae_eval import Evaluated, EvaluateOptions
    from autointerp.units.sae.fitting import Progress

sae_app = typer.Typer(help="Sparse autoencoders.", no_args_is_help=True)


def _guarded(work: Callable[[], None]) -> None:
    from autointerp.cli import guarded

    guarded(work)


def _console(stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr)


@sae_app.command("train")
def train(
    config: Annotated[Path, typer.Argument(help="A YAML config; see docs/sae-training.md.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder to write; overrides the config's.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", help="Texts; overrides the config's corpus.path.")
    ] = None,
) -> None:
    """Train sparse autoencoders on a subject's activations; run it again to go on."""

    def work() -> None:
        from autointerp.config import SaeTrainConfig, load_config
        from autointerp.train import train_dictionaries

        settings = load_config(config, SaeTrainConfig)
        if output:
            settings = settings.model_copy(update={"output": str(output)})
        if corpus:
            texts = settings.corpus.model_copy(update={"path": str(corpus)})
            settings = settings.model_copy(update={"corpus": texts})
        console = _console(stderr=True)
        print(f"curves: {Path(settings.output) / 'progress.html'}", file=sys.stderr, flush=True)
        with _TrainingBar(console, settings.n_tokens) as bar:
            saes = train_dictionaries(settings, report=bar.report, warn=bar.warn)
        for name, sae in saes.items():
            folder = Path(settings.output) / name
            print(f"{sae!r} in {folder}")
            found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            print(
                f"held out: explained variance {found['explained_variance']:.4f}, L0 "
                f"{found['l0']:.1f}, dead {found['dead_share']:.1%} on {found['n_tokens']} tokens"
            )

    _guarded(work)


class _TrainingBar:
    """A bar on a terminal, lines of text in a file."""

    def __init__(self, console: "Console", n_tokens: int) -> None:
        from rich.progress import Progress as Bar

        self._console = console
        self._bar = Bar(console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("training", total=n_tokens)

    def __enter__(self) -> "_TrainingBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, now: "Progress") -> None:
        text = (
            f"{now.name}: explained variance {now.explained_variance:.3f}, L0 {now.l0:.1f}, "
            f"dead {now.dead_share:.1%}, {now.tokens_per_second:.0f} tokens/s"
        )
        if not self._console.is_terminal:
            print(f"{now.n_tokens} tokens, {text}", file=sys.stderr, flush=True)
        self._bar.update(self._task, completed=now.n_tokens, description=text)

    def warn(self, text: str) -> None:
        self._console.print(f"warning: {text}", style="yellow", highlight=False)


@sae_app.command("eval")
def evaluate(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH…", help="Dictionaries; `demo` is the shipped one.")
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="A training's config: its subject, texts and masks."),
    ] = None,
    corpus: Annotated[
        str | None, typer.Option("--corpus", help="Texts; `demo` is the shipped corpus.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", help="The language model; smollm2 if left out.")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens to measure on.")] = 32_768,
    loss_tokens: Annotated[
        int, typer.Option("--loss-tokens", min=0, help="Tokens for loss and KL; 0 for neither.")
    ] = 8_192,
    baselines: Annotated[
        str, typer.Option("--baselines", help="pca, random, or both as pca,random.")
    ] = "",
    hook_point: Annotated[
        str | None, typer.Option("--hook-point", help="Where files do not say where they read.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for JSON, CSV and the frontier.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """How sparse and how faithful dictionaries are, on text they were not trained on."""

    def work() -> None:
        from autointerp import resources
        from autointerp.sae_eval import evaluate_paths, write_evaluation

        options = _options(config, corpus, subject, tokens, loss_tokens, baselines, hook_point)
        found_at = [str(resources.shipped_path(path, "sae")) for path in paths]
        with _console(stderr=True).status("loading") as status:
            found = evaluate_paths(found_at, options, status.update)
        if output:
            write_evaluation(found, output)
            print(f"written to {output}", file=sys.stderr)
        if json_output:
            print(json.dumps([each.as_dict() for each in found]))
        else:
            _console().print(_table(found))

    _guarded(work)


def _options(
    config: Path | None,
    corpus: str | None,
    subject: str | None,
    tokens: int,
    loss_tokens: int,
    baselines: str,
    hook_point: str | None,
) -> "EvaluateOptions":
    """What the options of the command line, and a training's config, say together."""
    from autointerp.config import CorpusConfig, SaeTrainConfig, SubjectConfig, load_config
    from autointerp.records import UsageError
    from autointerp.sae_eval import EvaluateOptions
    from autointerp.units.sae.baselines import BASELINES

    names = tuple(name for name in baselines.split(",") if name)
    if wrong := [name for name in names if name not in BASELINES]:
        raise UsageError(f"--baselines: {wrong[0]!r} is none of {', '.join(BASELINES)}")
    if config is None and corpus is None:
        raise UsageError("give the texts: --corpus PATH, or --config of a training")
    amounts: dict[str, Any] = {"n_tokens": tokens, "loss_tokens": loss_tokens}
    if config is None:
        texts = CorpusConfig(path=corpus)
        model = SubjectConfig(model=subject or "smollm2")
        return EvaluateOptions(model, texts, baselines=names, hook_point=hook_point, **amounts)
    given = load_config(config, SaeTrainConfig)
    texts = given.corpus.model_copy(update={"path": corpus} if corpus else {})
    model = given.subject.model_copy(update={"model": subject} if subject else {})
    return EvaluateOptions(
        model, texts, tuple(given.exclude), max_norm=given.max_norm, baselines=names,
        hook_point=hook_point or given.hook_point, **amounts,
    )  # fmt: skip


def _table(found: "list[Evaluated]") -> "Table":
    """The numbers that are looked at first; JSON and CSV hold all."""
    from rich.table import Table

    table = Table("", "latents", "L0", "explained", "cosine", "bias", "loss rec.", "KL", "dead")
    for each in found:
        m, loss = each.metrics, each.loss
        recovered = None if loss is None else loss.loss_recovered
        table.add_row(
            each.name, str(each.n_latents), f"{m.l0:.1f}", f"{m.explained_variance:.4f}",
            f"{m.cosine:.4f}", f"{m.relative_reconstruction_bias:.3f}",
            "–" if recovered is None else f"{recovered:.4f}",
            "–" if loss is None else f"{loss.kl_reconstructed:.3f}", f"{m.dead_share:.1%}",
        )  # fmt: skip
    return table


@sae_app.command("convert")
def convert(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Any dictionary that a config could name.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    to: Annotated[str, typer.Option("--to", help="saelens or dictionary_learning.")],
    format: Annotated[
        str | None, typer.Option("--format", help="Of IN; recognised if left out.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit of IN on the hub.")
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", help="Latents kept per token, where IN does not say.")
    ] = None,
    input_scale: Annotated[
        float | None, typer.Option("--input-scale", help="sqrt(d_in) / mean norm, likewise.")
    ] = None,
) -> None:
    """Write a dictionary of any readable format for SAELens or dictionary_learning."""

    def work() -> None:
        from autointerp.units.sae import load_sae
        from autointerp.units.sae.convert import convert_sae

        sae = load_sae(source, format, revision=revision, k=k, input_scale=input_scale)
        done = convert_sae(sae, output, to)
        print(f"read {sae!r}")
        print(f"wrote {output} as {to} {done.written_as}; read back, on random inputs:")
        print(
            f"latents differ by at most {done.largest_latent_difference:.1g} of the largest, "
            f"outputs by {done.largest_output_difference:.1g}"
        )

    _guarded(work)
