"""The command line: parse, call, print. No logic.

Exit codes: 0 done, 1 failed, 2 usage (also: what the user must install or mend first).
"""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from autointerp.cli_analysis import register as register_analysis
from autointerp.cli_exchange import register as register_exchange
from autointerp.cli_presets import register as register_presets
from autointerp.cli_sae import sae_app
from autointerp.cli_simulator import simulator_app
from autointerp.cli_steer import register as register_steer
from autointerp.cli_trust import register as register_trust
from autointerp.cli_view import register as register_view
from autointerp.names import printable
from autointerp.records import AutointerpError, UsageError

app = typer.Typer(
    help="Explain, simulate and score the units of a language model: SAE features and neurons.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(sae_app, name="sae")
app.add_typer(simulator_app, name="simulator")

ConfigPath = Annotated[Path, typer.Argument(help="A YAML config; see the README.")]
UnitOption = Annotated[
    list[str] | None,
    typer.Option("--unit", help="Only this unit, as SOURCE/INDEX (SOURCE/INDEX- for the negative "
                 "side of a neuron); may be given several times."),
]  # fmt: skip
RunFolder = Annotated[Path, typer.Argument(help="A run's folder, such as results/demo.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", help="The run's folder; the config's, or results/ and its name, if left out."
    ),
]

CacheOption = Annotated[
    str | None,
    typer.Option("--cache", help="Answers of language models that were paid for: shared, off, "
                 "read_only, or a file; overrides the config's llm.cache."),
]  # fmt: skip

PresetOption = Annotated[
    str | None,
    typer.Option("--preset", help="Start from this published protocol (`autointerp presets`); what "
                 "the config says comes before it."),
]  # fmt: skip
FaithfulOption = Annotated[
    bool,
    typer.Option("--faithful", help="With a preset: as published also where it does otherwise; "
                 "results say so."),
]  # fmt: skip


@app.command()
def demo(
    smallest: Annotated[
        bool, typer.Option("--smallest", help="The same stages on fewer texts and units.")
    ] = False,
    output: OutputOption = None,
    json_output: JsonOption = False,
) -> None:
    """The whole story on an embedded model: no key, no network, a few minutes."""

    def work() -> None:
        from autointerp import resources

        name = "smallest.yaml" if smallest else "demo.yaml"
        _run(resources.path(f"datasets/demo/{name}"), output, None, "report", json_output)

    _guarded(work)


@app.command()
def run(
    config: ConfigPath,
    unit: UnitOption = None,
    output: OutputOption = None,
    cache: CacheOption = None,
    preset: PresetOption = None,
    faithful: FaithfulOption = False,
    json_output: JsonOption = False,
) -> None:
    """All stages. Run it again to go on where it stopped, or after changing the config."""
    changes = _preset(preset, faithful)
    _guarded(lambda: _run(config, output, unit, "report", json_output, cache, changes))


@app.command()
def record(config: ConfigPath, output: OutputOption = None) -> None:
    """Record activations: the corpus through the subject, windows and statistics of every unit."""
    _guarded(lambda: _run(config, output, None, "record", False))


@app.command()
def explain(
    config: ConfigPath,
    unit: UnitOption = None,
    output: OutputOption = None,
    cache: CacheOption = None,
) -> None:
    """Record if needed, then explain the chosen units."""
    _guarded(lambda: _run(config, output, unit, "explain", False, cache))


@app.command()
def score(
    config: ConfigPath,
    unit: UnitOption = None,
    output: OutputOption = None,
    cache: CacheOption = None,
) -> None:
    """Record and explain if needed, then score the explanations."""
    _guarded(lambda: _run(config, output, unit, "score", False, cache))


@app.command()
def status(
    run_folder: Annotated[Path, typer.Argument(help="A run's folder, such as results/demo.")],
    json_output: JsonOption = False,
) -> None:
    """How far a run is, and which process holds it."""

    def work() -> None:
        from autointerp.store import run_status
        from autointerp.store.status import spending_lines

        found = run_status(run_folder)
        if json_output:
            print(json.dumps({**vars(found), "folder": str(found.folder)}))
            return
        recorded = ", ".join(
            f"{name} {'recorded' if done else 'not yet recorded'}"
            for name, done in found.recorded.items()
        )
        print(f"{found.folder}: {recorded or 'no sources'}")
        print(f"explanations: {_counts(found.explanations)}{found.beside('explanations')}")
        print(f"scores: {_counts(found.scores)}{found.beside('simulation')}")
        for scorer, counts in found.judged_scores.items():
            print(f"scores by {scorer}: {_counts(counts)}{found.beside(scorer)}")
        if found.earlier is None and found.finished:
            print("these are of every config so far: no table of the present one is there yet")
        if line := found.retry_line():
            print(line)
        for line in spending_lines(found.spending, found.in_flight):
            print(line)
        print(f"report: {found.folder / 'report.html' if found.finished else 'not yet'}")
        print(f"held by {found.held_by}" if found.held_by else "nobody holds it")

    _guarded(work)


@app.command()
def retry(
    run_folder: RunFolder,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed",
            help="Ask again for failed explanations and scores, and for what incomplete scores "
            "lack.",
        ),
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Do again what failed, with the run's own config; everything else stays as it is."""

    def work() -> None:
        from autointerp.retrying import retry_failed

        if not failed:
            raise UsageError("say what is to be done again: autointerp retry RUN --failed")
        with RichReporter(quiet=json_output) as reporter:
            done = retry_failed(run_folder, reporter)
        print(json.dumps(done) if json_output else _retried(done))

    _guarded(work)


@app.command()
def estimate(
    config: ConfigPath,
    unit: UnitOption = None,
    output: OutputOption = None,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Units whose prompts are built.")
    ] = 8,
    timing: Annotated[
        bool, typer.Option(help="Time the models on this machine; it takes a few seconds.")
    ] = True,
    preset: PresetOption = None,
    faithful: FaithfulOption = False,
    json_output: JsonOption = False,
) -> None:
    """Calls, tokens, money, hours and disk of a run, from its real prompts. Spends nothing."""

    def work() -> None:
        from autointerp.config import RunConfig, load_config
        from autointerp.estimate import estimate_run, print_estimate

        settings = load_config(config, RunConfig, _preset(preset, faithful))
        if output:
            settings = settings.model_copy(update={"output": str(output)})
        found = estimate_run(settings, units=unit, sample=sample, timing=timing)
        if json_output:
            print(json.dumps(found.as_json(), ensure_ascii=False))
        else:
            print_estimate(found, _console())

    _guarded(work)


@app.command()
def batches(
    run_folder: RunFolder,
    adopt: Annotated[
        str | None,
        typer.Option("--adopt", metavar="INTENT=ID", help="The provider's id of a batch in doubt."),
    ] = None,
    forget: Annotated[
        str | None,
        typer.Option("--forget", metavar="INTENT", help="A batch that the provider does not have."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Batches of a run that are not fetched yet, and what to make of one in doubt."""

    def work() -> None:
        from autointerp.retrying import open_batches, settle_doubt

        if adopt or forget:
            print(settle_doubt(run_folder, adopt, forget))
            return
        rows = open_batches(run_folder)
        if json_output:
            print(json.dumps(rows))
            return
        for row in rows:
            print(
                f"{row['id']}  {row['state']}  {row['n']} requests to {row['model']}  "
                f"{row['provider_id'] or 'no id yet'}"
            )
        if not rows:
            print("no batch is open")

    _guarded(work)


@app.command("check-judge")
def check_judge(
    simulator: Annotated[
        str,
        typer.Option(
            "--simulator",
            help="How it predicts: embedded (the trained one that ships) or all_at_once; "
            "docs/simulators.md.",
        ),
    ] = "all_at_once",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="The language model: smollm2 (if left out), a folder or a hub "
            "id; for embedded: the folder of one of your own.",
        ),
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Template in prompts/.")] = None,
    llm: Annotated[
        str | None,
        typer.Option(
            "--llm",
            help="Check a language model as a judge by detection instead: "
            "local/smollm2, openai/MODEL, anthropic/MODEL.",
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="With --llm: another server that serves it.")
    ] = None,
    units: Annotated[
        int | None,
        typer.Option("--units", min=1, help="Ask about so many units only, of every kind."),
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option("--compare", help="Reports that --json printed: a table of judges instead."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Known-answer test: is this simulator, or this LLM as a judge, fit to score explanations?"""

    def work() -> None:
        if compare:
            from autointerp.viewer.judge_table import comparison_table, read_reports

            _console().print(comparison_table(read_reports(compare)))
            return
        if llm:
            from autointerp.cli_trust import check_llm_judge

            check_llm_judge(llm, base_url, units, as_json)
            return
        if base_url:
            raise UsageError("--base-url is for --llm MODEL")
        from rich.progress import Progress

        from autointerp.analysis.check_judge import check_judge
        from autointerp.analysis.check_llm import spread_units
        from autointerp.analysis.known_answers import known_answers
        from autointerp.simulators import load_simulator
        from autointerp.viewer.judge_table import judge_table

        answers = spread_units([one for one in known_answers() if one.readable], units)
        options = {"prompt": prompt} if prompt else {}
        if model or simulator != "embedded":
            options["model"] = model or "smollm2"
        judge = load_simulator(simulator, **options)
        with Progress(console=_console(stderr=True), transient=True) as bar:
            task = bar.add_task("units", total=len(answers))
            report = check_judge(judge, answers, lambda _: bar.advance(task))
        if as_json:
            typer.echo(json.dumps(report.as_dict(), indent=2))
        else:
            _console().print(judge_table(report))
            _console().print(report.verdict)

    _guarded(work)


@app.command("import-records")
def import_records(
    file: Annotated[
        Path,
        typer.Argument(help="Parquet or jsonl; a row holds unit, tokens, activations, [document]."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Folder of the new run; results/ and the file's name without "
            "its ending if left out.",
        ),
    ] = None,
) -> None:
    """Check units recorded elsewhere and write a config with which they are explained and scored.

    No subject is needed: `autointerp run` on the printed config does the rest.
    """

    def work() -> None:
        from autointerp.import_records import start_from_records

        folder = output or Path("results") / file.stem
        found, config = start_from_records(file, folder)
        windows = sum(len(unit.records) for unit in found.units)
        print(f"{len(found.units)} units, {windows} windows, {len(found.texts)} documents")
        if found.n_negative:
            print(f"{found.n_negative} activations below 0 were taken as 0")
        for line in found.rejected[:10]:
            print(f"refused: {printable(line)}", file=sys.stderr)
        if len(found.rejected) > 10:
            print(f"… and {len(found.rejected) - 10} more", file=sys.stderr)
        print(f"now: autointerp run {shlex.quote(str(config))}")

    _guarded(work)


@app.callback(invoke_without_command=True)
def top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Explain, simulate and score the units of a language model."""
    if version:
        from importlib import metadata

        print(f"autointerp {metadata.version('autointerp')}")
        raise typer.Exit


def _run(
    config: Path,
    output: Path | None,
    units: list[str] | None,
    until: str,
    as_json: bool,
    cache: str | None = None,
    changes: dict[str, Any] | None = None,
) -> None:
    from autointerp.config import RunConfig, load_config
    from autointerp.runner import output_folder, run_folder
    from autointerp.runner import run as run_config
    from autointerp.store import folder_of_config, run_status

    settings = load_config(config, RunConfig, changes)
    output = output or folder_of_config(config)
    if output:
        settings = settings.model_copy(update={"output": str(output)})
    if cache:
        llm = settings.llm.model_copy(update={"cache": cache})
        settings = settings.model_copy(update={"llm": llm})
    folder = output_folder(settings, units)
    reporter = RichReporter(quiet=as_json)
    with reporter:
        results = run_config(settings, reporter=reporter, until=until, units=units)
    again = run_status(run_folder(settings)).retry_line()
    if results is None:
        print(f"{until} is done: {folder}")
        if again:
            print(again)
        return
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
        return
    from autointerp.outputs import print_summary

    print_summary(summary, _console())
    print(f"report: {folder / 'report.html'}")
    if again:
        print(again)


def _preset(name: str | None, faithful: bool) -> dict[str, Any]:
    """What is set in the config by the options of a preset."""
    return ({"preset": name} if name else {}) | ({"faithful": True} if faithful else {})


class RichReporter:
    """Draws a bar per stage on the terminal; lines of text where the output is a file."""

    def __init__(self, quiet: bool = False) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = _console(stderr=True)
        self._quiet = quiet
        self._progress = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet,
        )
        self._task: Any = None

    def __enter__(self) -> "RichReporter":
        return self

    def __exit__(self, *_: object) -> None:
        # Where nothing was begun, stopping would print an empty line.
        if self._task is not None:
            self._progress.stop()

    def stage(self, name: str, total: int, unit: str) -> None:
        """Begin a bar."""
        if not self._quiet and not self._console.is_terminal:
            self._console.print(f"{name}: {total} {unit}")
        self._progress.start()
        self._task = self._progress.add_task(name, total=total, unit=unit)

    def advance(self, done: int) -> None:
        """Move the bar on."""
        self._progress.advance(self._task, done)

    def remaining(self) -> float | None:
        """Seconds that the present stage will still take, as the bar shows them."""
        tasks = {task.id: task for task in self._progress.tasks}
        return tasks[self._task].time_remaining if self._task in tasks else None

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        if not self._quiet:
            self._console.print(text, highlight=False)


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=stderr)


def _retried(done: dict[str, Any]) -> str:
    again, left = done["asked_again"], done["failed_now"]
    return (
        f"asked again: {again['explanations']} explanations, {again['scores']} scores, "
        f"{again['incomplete']} incomplete scores; failed now: {left['explanations']} "
        f"explanations, {left['scores']} scores; incomplete now: {done['incomplete_now']}"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "none yet"


READER_LEFT = 141
"""Exit code where nobody reads any more what is printed, as after `| head`: 128 and SIGPIPE."""


def _guarded(work: Callable[[], None]) -> None:
    """Run a command; one clear line for what the user can mend, never a traceback."""
    import sqlite3

    try:
        work()
    except AutointerpError as error:
        print(f"autointerp: {printable(str(error))}", file=sys.stderr)
        raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None
    except KeyboardInterrupt:
        print(
            "autointerp: stopped; what was finished is kept, the same command goes on from there",
            file=sys.stderr,
        )
        raise typer.Exit(1) from None
    except BrokenPipeError:
        raise typer.Exit(READER_LEFT) from None
    except (OSError, sqlite3.Error) as error:
        print(f"autointerp: {printable(_said(error))}", file=sys.stderr)
        raise typer.Exit(1) from None


guarded = _guarded
"""For commands that live in modules of their own."""


def _said(error: Exception) -> str:
    """What the machine refused, and what to do."""
    import errno

    if getattr(error, "errno", None) == errno.ENOSPC or "disk is full" in str(error):
        return (
            "the disk is full; what was finished is kept: make room, then give the same command "
            "again"
        )
    if not isinstance(error, OSError):
        return (
            f"the database of the run cannot be used ({error}): make its folder writable, or move "
            "its .sqlite files away and run again"
        )
    place = f" {str(error.filename)!r}" if error.filename else ""
    if isinstance(error, FileNotFoundError) and place:
        return (
            f"{place.strip()} is not there: if it is a run's file, give the run's config.yaml to "
            "`autointerp run` again, which makes what is missing; else give another path"
        )
    return (
        f"cannot use{place}: {error.strerror or error}; give another path, or folder with --output"
    )


register_analysis(app, _guarded)
register_trust(app, _guarded)
register_steer(app, _guarded)
register_exchange(app, _guarded)
register_view(app, _guarded)
register_presets(app, _guarded)


def main() -> None:
    """Entry point of the `autointerp` command."""
    import os
    import warnings

    # Loading bars and advice of libraries would tear our own output apart.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", module=r"transformers|torch|gguf")
    try:
        app()
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            # What is left unwritten would be complained about when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(READER_LEFT)


if __name__ == "__main__":
    main()
