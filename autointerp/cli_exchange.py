"""Commands that share a run and take in what others share: `export`, `import`."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from autointerp.names import printable

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
            str,
            typer.Option(
                "--format",
                help="jsonl, parquet, csv, dataset, openai, neuronpedia or neuronpedia-upload.",
            ),
        ] = "jsonl",
        examples: Annotated[
            int | None,
            typer.Option("--examples", min=0, max=1000, help="Windows per unit; 5 if left out."),
        ] = None,
        no_text: Annotated[
            bool, typer.Option("--no-text", help="Leave texts of the corpus out.")
        ] = False,
        max_context: Annotated[
            int | None,
            typer.Option(
                "--max-context", min=1, help="Tokens of a window at most; all if left out."
            ),
        ] = None,
        licence: Annotated[
            str | None, typer.Option("--licence", help="Licence of the corpus, for the card.")
        ] = None,
        model_id: Annotated[
            str | None, typer.Option("--model-id", help="Neuronpedia: its name of the subject.")
        ] = None,
        source_id: Annotated[
            str | None, typer.Option("--source-id", help="Neuronpedia: its name of the source.")
        ] = None,
        author: Annotated[
            str, typer.Option("--author", help="Neuronpedia: who rows are said to be of.")
        ] = "autointerp",
        layer: Annotated[
            int | None,
            typer.Option("--layer", min=0, help="OpenAI: layer of sources that have none known."),
        ] = None,
    ) -> None:
        """Write explanations with all scores, controls and provenance for other programs."""

        def work() -> None:
            from autointerp.export.exporting import export_run
            from autointerp.export.neuronpedia import Names
            from autointerp.export.rows import TextChoice

            choice = TextChoice(examples, not no_text, max_context, licence)
            names = Names(model_id, source_id, author)
            done = export_run(run_folder, format, output, choice, names=names, layer=layer)
            for line in done.left_out[:_MOST_SHOWN]:
                print(f"left out: {printable(line)}", file=sys.stderr)
            if len(done.left_out) > _MOST_SHOWN:
                print(f"… and {len(done.left_out) - _MOST_SHOWN} more", file=sys.stderr)
            what = "units" if format.startswith(("openai", "neuronpedia")) else "rows"
            print(f"{done.n} {what} written to {output}")

        guarded(work)

    @app.command("import")
    def import_(
        files: Annotated[
            list[Path],
            typer.Argument(metavar="FILE…", help="Files, or folders of them; docs/export.md."),
        ],
        output: Annotated[Path, typer.Option("--output", help="Folder to make.")],
        source: Annotated[
            list[str] | None,
            typer.Option("--source", help="What their source is called here: NAME or OLD=NAME."),
        ] = None,
        json_output: Annotated[
            bool, typer.Option("--json", help="Print JSON for machines.")
        ] = False,
    ) -> None:
        """Take in explanations and activations of others, to be scored here."""
        guarded(lambda: _import(files, output, source or [], json_output))


_MOST_SHOWN = 20
"""Refusals that are printed; all of them are in `refused.txt`."""


def _import(files: list[Path], output: Path, sources: list[str], as_json: bool) -> None:
    from autointerp.export.importing import import_files

    found = import_files(files, output, sources)
    for one in found.refused[:_MOST_SHOWN]:
        print(f"refused: {printable(f'{one.where}: {one.reason}')}", file=sys.stderr)
    if found.n_refused > _MOST_SHOWN:
        more = found.n_refused - _MOST_SHOWN
        print(f"… and {more} more, see {output / 'refused.txt'}", file=sys.stderr)
    if as_json:
        print((output / "import.json").read_text(encoding="utf-8"), end="")
        return
    for name, n in found.explanations.items():
        path = output / "explanations" / f"{name}.jsonl"
        print(f"{n} explanations: {{name: {name}, type: fixed, path: {path}}}")
    for name, n in found.windows.items():
        print(f"{n} windows of {name}: {output / 'records' / name}.jsonl")
    if found.n_rows:
        print(f"{found.n_rows} exported rows kept; `autointerp export {output}` gives them back")
    print(f"{found.n_refused} refused, {found.n_repeated} repeated")
    if found.config:
        print(f"next: autointerp run {shlex.quote(str(found.config))}")
