"""Commands that share a run and take in what others share: `export`, `import`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Guard = Callable[[Callable[[], None]], None]
"""Runs a command's work and turns errors into one line and an exit code."""


def register(app: typer.Typer, guarded: Guard) -> None:
    """Add the commands to the command line."""

    @app.command()
    def export(
        run_folder: Annotated[
            Path, typer.Argument(metavar="RUN", help="A run's folder, or one that import made.")
        ],
        output: Annotated[Path, typer.Option("--output", help="File or folder to write.")],
        format: Annotated[
            str, typer.Option("--format", help="jsonl, parquet, csv or dataset.")
        ] = "jsonl",
        examples: Annotated[
            int, typer.Option("--examples", min=0, max=1000, help="Windows per unit.")
        ] = 5,
        no_text: Annotated[
            bool, typer.Option("--no-text", help="Leave texts of the corpus out.")
        ] = False,
        max_context: Annotated[
            int | None,
            typer.Option("--max-context", min=1, help="Tokens of a window at most."),
        ] = None,
        licence: Annotated[
            str | None, typer.Option("--licence", help="Licence of the corpus, for the card.")
        ] = None,
    ) -> None:
        """Write explanations with all scores, controls and provenance for other programs."""

        def work() -> None:
            from autointerp.export.exporting import export_run
            from autointerp.export.rows import TextChoice

            choice = TextChoice(examples, not no_text, max_context, licence)
            n = export_run(run_folder, format, output, choice)
            print(f"{n} rows written to {output}")

        guarded(work)
