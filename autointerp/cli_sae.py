"""`autointerp sae …`: train, eval, card, compare, convert."""

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


ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A training's config: its subject, texts and masks.")
]
CorpusOption = Annotated[
    str | None, typer.Option("--corpus", help="Texts; `demo` is the shipped corpus.")
]
SubjectOption = Annotated[
    str | None, typer.Option("--subject", help="The language model; smollm2 if left out.")
]
HookPointOption = Annotated[
    str | None, typer.Option("--hook-point", help="Where files do not say where they read.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


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
    config: ConfigOption = None,
    corpus: CorpusOption = None,
    subject: SubjectOption = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens to measure on.")] = 32_768,
    loss_tokens: Annotated[
        int, typer.Option("--loss-tokens", min=0, help="Tokens for loss and KL; 0 for neither.")
    ] = 8_192,
    baselines: Annotated[
        str, typer.Option("--baselines", help="pca, random, or both as pca,random.")
    ] = "",
    hook_point: HookPointOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for JSON, CSV and the frontier.")
    ] = None,
    json_output: JsonOption = False,
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
    from autointerp.records import UsageError
    from autointerp.sae_eval import EvaluateOptions
    from autointerp.units.sae.baselines import BASELINES

    names = tuple(name for name in baselines.split(",") if name)
    if wrong := [name for name in names if name not in BASELINES]:
        raise UsageError(f"--baselines: {wrong[0]!r} is none of {', '.join(BASELINES)}")
    on = _measured_on(config, corpus, subject, hook_point)
    return EvaluateOptions(n_tokens=tokens, loss_tokens=loss_tokens, baselines=names, **on)


def _measured_on(
    config: Path | None, corpus: str | None, subject: str | None, hook_point: str | None
) -> dict[str, Any]:
    """The subject, texts, masks and hook point of a training's config, and of the options."""
    from autointerp.config import CorpusConfig, SaeTrainConfig, SubjectConfig, load_config
    from autointerp.records import UsageError

    if config is None and corpus is None:
        raise UsageError("give the texts: --corpus PATH, or --config of a training")
    if config is None:
        model = SubjectConfig(model=subject or "smollm2")
        return {
            "subject": model, "corpus": CorpusConfig(path=corpus), "hook_point": hook_point
        }  # fmt: skip
    given = load_config(config, SaeTrainConfig)
    return {
        "subject": given.subject.model_copy(update={"model": subject} if subject else {}),
        "corpus": given.corpus.model_copy(update={"path": corpus} if corpus else {}),
        "exclude": tuple(given.exclude),
        "max_norm": given.max_norm,
        "hook_point": hook_point or given.hook_point,
    }


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


@sae_app.command("compare")
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A dictionary; `demo` is the shipped one.")],
    b: Annotated[
        str, typer.Argument(metavar="B", help="Another one; or random, or pca: a baseline like A.")
    ],
    config: ConfigOption = None,
    corpus: CorpusOption = None,
    subject: SubjectOption = None,
    subject_b: Annotated[
        str | None, typer.Option("--subject-b", help="B's language model, where it is another.")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens to compare on.")] = 65_536,
    hook_point: HookPointOption = None,
    hook_point_b: Annotated[
        str | None, typer.Option("--hook-point-b", help="The same for B, where it is another.")
    ] = None,
    min_active: Annotated[
        int, typer.Option("--min-active", min=1, help="Tokens on which a latent must fire.")
    ] = 10,
    min_cosine: Annotated[
        float, typer.Option("--min-cosine", help="Least decoder cosine of parent and child.")
    ] = 0.5,
    latent: Annotated[
        list[int] | None, typer.Option("--latent", help="Of A: list its neighbours. Repeatable.")
    ] = None,
    neighbours: Annotated[
        int, typer.Option("--neighbours", min=1, help="How many, in A and in B.")
    ] = 10,
    with_map: Annotated[
        bool, typer.Option("--map/--no-map", help="Whether --output gets a map of all latents.")
    ] = True,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for JSON, CSV and figures.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Which latents two dictionaries share, and which of one split in the other."""

    def work() -> None:
        from autointerp import resources
        from autointerp.config import SubjectConfig
        from autointerp.sae_compare import CompareOptions, compare_paths
        from autointerp.sae_compare_report import neighbour_rows, summary, write_comparison

        options = CompareOptions(
            subject_b=SubjectConfig(model=subject_b) if subject_b else None, n_tokens=tokens,
            hook_point_b=hook_point_b, min_active=min_active, min_cosine=min_cosine,
            **_measured_on(config, corpus, subject, hook_point),
        )  # fmt: skip
        paths = [str(resources.shipped_path(path, "sae")) for path in (a, b)]
        with _console(stderr=True).status("loading") as status:
            found = compare_paths(paths[0], paths[1], options, status.update)
            near = list(neighbour_rows(found, latent or [], neighbours))
            if output:
                write_comparison(
                    found, output, latents=latent, n_neighbours=neighbours, with_map=with_map,
                    report=status.update,
                )  # fmt: skip
        if output:
            print(f"written to {output}", file=sys.stderr)
        if json_output:
            print(json.dumps(summary(found) | ({"neighbours": near} if near else {})))
            return
        _print_comparison(summary(found), near)

    _guarded(work)


def _print_comparison(facts: dict[str, Any], near: list[dict[str, Any]]) -> None:
    from rich.table import Table

    a, b = facts["a"]["name"], facts["b"]["name"]
    print(
        f"{facts['n_tokens']:,} {'tokens' if facts['aligned_by'] == 'tokens' else 'spans of text'} "
        f"of {facts['n_documents']} documents, aligned by {facts['aligned_by']}"
    )
    table = Table("best correlation", "compared", "mean", "> 0.5", "> 0.7", "> 0.9", "by chance",
                  "dead")  # fmt: skip
    for title, key in ((f"{a} in {b}", "a_in_b"), (f"{b} in {a}", "b_in_a")):
        each = facts["universality"][key]
        numbers = [each.get("mean"), *(each.get(f"share_above_{n}") for n in (0.5, 0.7, 0.9)),
                   each.get("control_mean")]  # fmt: skip
        texts = ["–" if n is None else f"{n:.3f}" for n in numbers]
        table.add_row(title, str(each["n_compared"]), *texts, str(each["n_dead"]))
    _console().print(table)
    print(f"{facts['universality']['n_mutual']} pairs of latents are each other's best")
    if facts["splitting"] is None:
        print("decoders not compared: they write to different spaces")
    else:
        s, d = facts["splitting"], facts["decoders"]
        print(
            f"decoders: mean largest cosine {d['mean_max_cosine_a_in_b']:.3f} of {a} in {b}, "
            f"{d['mean_max_cosine_b_in_a']:.3f} of {b} in {a}"
        )
        print(
            f"of the latents of {s['narrow']}, {s['n_kept']} were kept in {s['wide']}, "
            f"{s['n_split']} split, {s['n_gone']} are gone; {s['n_new']} of {s['wide']} are new"
        )
    if near:
        table = Table("latent", "dictionary", "neighbours by decoder cosine")
        for key in dict.fromkeys((row["latent"], row["dictionary"]) for row in near):
            those = [row for row in near if (row["latent"], row["dictionary"]) == key]
            listed = ", ".join(f"{row['neighbour']} ({row['cosine']:.2f})" for row in those)
            table.add_row(str(key[0]), key[1], listed)
        _console().print(table)


@sae_app.command("card")
def card(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A dictionary's folder.")],
    evaluation: Annotated[
        Path, typer.Argument(help="What `sae eval --output` wrote of it and of others.")
    ],
    config: Annotated[
        Path | None, typer.Option("--config", help="The training's config, to be shown.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write; printed if left out.")
    ] = None,
) -> None:
    """A page for a dictionary: data, command, and its numbers beside baselines and others."""

    def work() -> None:
        from autointerp import resources
        from autointerp.sae_card import card as make

        text = make(str(resources.shipped_path(path, "sae")), evaluation, config)
        if output is None:
            print(text, end="")
            return
        output.write_text(text, encoding="utf-8")
        print(f"written to {output}", file=sys.stderr)

    _guarded(work)


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
