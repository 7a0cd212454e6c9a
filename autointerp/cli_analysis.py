"""Commands over finished runs: compare, and what rests on the same tables."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

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
                         "several), explainer, layer, width, subject, density, or a key of the "
                         "sources' config such as type or sparsify.l0."),
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
            typer.Argument(help="A finished pilot run; assumed variances if left out."),
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
            from autointerp.analysis.planning import as_question, plan

            found = plan(
                run,
                effect=effect,
                power=power,
                alpha=alpha,
                question=as_question(question),
                explainers=explainer or (),
                sources=source or (),
                scorer=scorer,
            )
            if json_output:
                print(json.dumps(found.as_json(), allow_nan=False))
                return
            from autointerp.viewer.plan_table import plan_table

            _console().print(plan_table(found))

        guarded(work)


def _console() -> Any:
    from rich.console import Console

    return Console()
