"""Commands over finished runs: compare, and what rests on the same tables."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from autointerp.names import printable

RunFolders = Annotated[list[Path], typer.Argument(help="Folders of finished runs.")]
RunFolder = Annotated[Path, typer.Argument(help="A run's folder, such as results/demo.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
ScorerOption = Annotated[
    list[str] | None,
    typer.Option("--scorer", help="A scorer's name, or all; the headline's if left out."),
]
ExplainerOption = Annotated[
    list[str] | None,
    typer.Option("--explainer", help="Only this explainer; may be given several times."),
]
SourceOption = Annotated[
    list[str] | None,
    typer.Option("--source", help="Only units of this source; may be given several times."),
]


def register(app: typer.Typer, guarded: Callable[[Callable[[], None]], None]) -> None:
    """Add the commands to `app`; `guarded` turns errors of users into one clear line."""

    @app.command()
    def compare(  # pyright: ignore[reportUnusedFunction]
        runs: RunFolders,
        by: Annotated[
            str | None,
            typer.Option("--by", help="What makes the groups: source (of one run), run (of "
                         "several), explainer, layer, width, subject, density, token_entropy, or a "
                         "key of the sources' config such as type or sparsify.l0."),
        ] = None,
        within: Annotated[
            str | None,
            typer.Option("--within", help="Compare groups inside of like values of this, such as "
                         "token_entropy or density."),
        ] = None,
        scorer: ScorerOption = None,
        explainer: ExplainerOption = None,
        source: SourceOption = None,
        baseline: Annotated[
            str | None,
            typer.Option("--baseline", help="Compare every other group with this one; every pair "
                         "if left out."),
        ] = None,
        allow_different_designs: Annotated[
            bool,
            typer.Option("--allow-different-designs",
                         help="Compare runs whose windows were chosen differently."),
        ] = False,
        output: Annotated[
            Path | None,
            typer.Option("--output", help="Folder for tables and figure; compare/ in the first "
                         "run's folder if left out."),
        ] = None,
        json_output: JsonOption = False,
    ) -> None:  # fmt: skip
        """Features against neurons, explainers, layers, runs: matched, tested, in words."""

        def work() -> None:
            from autointerp.analysis.compare_runs import compare_runs, write_comparison

            found = compare_runs(
                runs,
                by=by,
                within=within,
                scorers=scorer or (),
                explainers=explainer or (),
                sources=source or (),
                baseline=baseline,
                allow_different_designs=allow_different_designs,
            )
            written = write_comparison(found, output or runs[0] / "compare")
            if json_output:
                print(json.dumps(found.as_json(), ensure_ascii=False, allow_nan=False))
                return
            from autointerp.viewer.compare_table import comparison_table

            _console().print(comparison_table(found))
            print(f"written: {', '.join(map(str, written))}")

        guarded(work)

    @app.command()
    def plan(  # pyright: ignore[reportUnusedFunction]
        effect: Annotated[
            float, typer.Option("--effect", help="What is to be seen, in lift, such as 0.1.")
        ],
        run: Annotated[
            Path | None,
            typer.Argument(help="A finished pilot run; the demo's variances if left out."),
        ] = None,
        pilot: Annotated[
            Path | None, typer.Option("--from", metavar="RUN", help="The same, as an option.")
        ] = None,
        question: Annotated[
            str,
            typer.Option("--question", help="groups (two sources), paired (two explainers of the "
                         "same units) or mean (one lift against 0)."),
        ] = "groups",
        power: Annotated[float, typer.Option("--power", help="Chance of seeing it.")] = 0.8,
        alpha: Annotated[float, typer.Option("--alpha", help="Level of the test.")] = 0.05,
        explainer: ExplainerOption = None,
        source: SourceOption = None,
        scorer: Annotated[
            str | None, typer.Option("--scorer", help="Of the pilot; the headline's if left out.")
        ] = None,
        json_output: JsonOption = False,
    ) -> None:  # fmt: skip
        """Units and windows that a difference needs to be seen, from a pilot run or without one."""

        def work() -> None:
            from contextlib import nullcontext

            from autointerp.analysis.planning import as_question, plan
            from autointerp.halves import open_halves
            from autointerp.records import UsageError

            if run is not None and pilot is not None:
                raise UsageError(f"two pilots, {run} and {pilot}: give one")
            folder = run or pilot
            with open_halves(folder) if folder else nullcontext() as half_scores:
                found = plan(
                    folder,
                    effect=effect,
                    power=power,
                    alpha=alpha,
                    question=as_question(question),
                    explainers=explainer or (),
                    sources=source or (),
                    scorer=scorer,
                    half_scores=half_scores,
                )
            if json_output:
                print(json.dumps(found.as_json(), allow_nan=False))
                return
            from autointerp.viewer.plan_table import plan_table

            _console().print(plan_table(found))

        guarded(work)

    @app.command()
    def mean(  # pyright: ignore[reportUnusedFunction]
        run_folder: RunFolder,
        gold: Annotated[
            str | None,
            typer.Option("--gold", help="The expensive scorer, known of some units; the last stage "
                         "of the run's cascade if left out."),
        ] = None,
        cheap: Annotated[
            str | None,
            typer.Option("--cheap", help="The cheap one, known of all units; the first stage of "
                         "the run's cascade if left out."),
        ] = None,
        of: Annotated[str, typer.Option("--of", help="lift, or score.")] = "lift",
        gold_share: Annotated[
            float | None,
            typer.Option("--gold-share", help="Use only so many of the gold scores, drawn by "
                         "chance: what a cascade would have known."),
        ] = None,
        level: Annotated[float, typer.Option("--level", help="Coverage of intervals.")] = 0.95,
        explainer: ExplainerOption = None,
        source: SourceOption = None,
        json_output: JsonOption = False,
    ) -> None:  # fmt: skip
        """The mean of a dictionary from a cheap score of all units and gold of a few."""

        def work() -> None:
            from autointerp.analysis.dictionary_mean import dictionary_mean

            found = dictionary_mean(
                run_folder,
                gold=gold,
                cheap=cheap,
                measure=of,
                gold_share=gold_share,
                level=level,
                explainers=explainer or (),
                sources=source or (),
            )
            if json_output:
                print(json.dumps(found.as_json(), ensure_ascii=False, allow_nan=False))
                return
            from autointerp.viewer.mean_table import mean_table

            _console().print(mean_table(found))

        guarded(work)

    register_people(app, guarded)

    @app.command()
    def agree(  # pyright: ignore[reportUnusedFunction]
        run_folder: RunFolder,
        explainer: Annotated[
            str | None,
            typer.Option("--explainer", help="Whose explanations; the best one if left out."),
        ] = None,
        source: SourceOption = None,
        of: Annotated[str, typer.Option("--of", help="score, or lift.")] = "score",
        output: Annotated[
            Path | None,
            typer.Option("--output", help="A file; agree.json in the run's folder if left out."),
        ] = None,
        json_output: JsonOption = False,
    ) -> None:
        """Do scorers agree: with each other, with themselves, with people? Asks nobody."""

        def work() -> None:
            from autointerp.analysis.agree import agree as find
            from autointerp.halves import open_halves
            from autointerp.store import write_text

            measure: Any = of
            with open_halves(run_folder) as half_scores:
                found = find(
                    run_folder,
                    explainer=explainer,
                    sources=source or (),
                    measure=measure,
                    half_scores=half_scores,
                )
            text = json.dumps(found.as_json(), ensure_ascii=False, allow_nan=False)
            written = output or run_folder / "agree.json"
            write_text(written, f"{text}\n")
            if json_output:
                print(text)
                return
            from autointerp.viewer.agree_table import agree_table

            _console().print(agree_table(found))
            print(f"written: {written}")

        guarded(work)


def register_people(app: typer.Typer, guarded: Callable[[Callable[[], None]], None]) -> None:
    """Add the commands by which people's ratings and labels come into a run."""
    ratings = typer.Typer(
        help="Blind ratings of explanations by people.", no_args_is_help=True, add_completion=False
    )
    app.add_typer(ratings, name="ratings")

    @ratings.command("export")
    def export(  # pyright: ignore[reportUnusedFunction]
        run_folder: RunFolder,
        output: Annotated[
            Path, typer.Option("--output", help="The file to fill in: .csv or .jsonl.")
        ],
        units: Annotated[int, typer.Option("--units", help="How many units to rate.")] = 30,
        explainer: Annotated[
            str | None,
            typer.Option("--explainer", help="Whose explanations; the best one if left out."),
        ] = None,
        source: SourceOption = None,
        seed: Annotated[int, typer.Option("--seed", help="Of choice and order.")] = 0,
    ) -> None:
        """Write a file for raters: units of all sources shuffled, their source hidden."""

        def work() -> None:
            from autointerp.analysis.ratings import export_ratings

            n = export_ratings(
                run_folder,
                output,
                n_units=units,
                explainer=explainer,
                sources=source or (),
                seed=seed,
            )
            print(f"{n} items: {output}")
            places = shlex.join([str(run_folder), str(output)])
            print(f"when filled in: autointerp ratings import {places} --rater NAME")

        guarded(work)

    @ratings.command("import")
    def bring_in(  # pyright: ignore[reportUnusedFunction]
        run_folder: RunFolder,
        file: Annotated[Path, typer.Argument(help="The file that was filled in.")],
        rater: Annotated[
            str | None, typer.Option("--rater", help="Who rated, where the file does not say.")
        ] = None,
        replace: Annotated[
            bool, typer.Option("--replace", help="Take changed ratings of the same person.")
        ] = False,
        json_output: JsonOption = False,
    ) -> None:
        """Check a rated file and keep its ratings in the run; `agree` uses them."""

        def work() -> None:
            from autointerp.analysis.ratings import import_ratings

            found = import_ratings(run_folder, file, rater=rater, replace=replace)
            if json_output:
                print(json.dumps(found))
                return
            print(
                f"{found['rated']} ratings taken, {found['replaced']} replaced, {found['known']} "
                f"known before; {found['unrated']} items not rated"
            )

        guarded(work)

    @app.command()
    def label(  # pyright: ignore[reportUnusedFunction]
        run_folder: RunFolder,
        unit: Annotated[str, typer.Argument(help="SOURCE/INDEX, such as features/317.")],
        text: Annotated[str, typer.Argument(help="The label.")],
        author: Annotated[str, typer.Option("--author", help="Who says so.")],
    ) -> None:
        """Keep a label by hand with its author; the next run scores it beside the others."""

        def work() -> None:
            from autointerp.explainers.labels import add_label
            from autointerp.store.status import is_in_tables

            kept = add_label(run_folder, unit, text, author)
            print(printable(f"{kept.unit}: {kept.explanation} ({kept.author})"))
            config = shlex.quote(str(run_folder / "config.yaml"))
            # A unit that the config does not choose is explained and scored when asked for singly.
            singly = is_in_tables(run_folder, kept.unit) is False
            asked = f" --unit {shlex.quote(kept.unit)}" if singly else ""
            print(f"to score it: autointerp run {config}{asked}")

        guarded(work)


def _console() -> Any:
    from rich.console import Console

    return Console()
