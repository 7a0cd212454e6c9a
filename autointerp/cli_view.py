"""The command that shows a run in a browser: `view`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Guard = Callable[[Callable[[], None]], None]
"""Runs a command's work and turns errors into one line and an exit code."""


def register(app: typer.Typer, guarded: Guard) -> None:
    """Add the command to the command line."""

    @app.command()
    def view(  # pyright: ignore[reportUnusedFunction]
        run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder.")],
        static: Annotated[
            Path | None,
            typer.Option(
                "--static", metavar="DIR", help="Write a folder that any web host serves instead."
            ),
        ] = None,
        port: Annotated[
            int, typer.Option("--port", min=0, max=65535, help="Port; any free one if 0.")
        ] = 8321,
        host: Annotated[
            str,
            typer.Option(
                "--host",
                help="Address to listen on; others than this machine can then read the run.",
            ),
        ] = "127.0.0.1",
        open_browser: Annotated[
            bool, typer.Option("--open/--no-open", help="Open a browser window.")
        ] = True,
        spend: Annotated[
            bool,
            typer.Option("--spend", help="Let trying explanations ask a hosted model."),
        ] = False,
        with_map: Annotated[
            bool,
            typer.Option("--map/--no-map", help="With --static: make maps of the directions."),
        ] = True,
    ) -> None:
        """Look at a run: units with explanations, scores and examples; try texts; rate blind."""

        def work() -> None:
            from autointerp.cli import RichReporter

            if static is not None:
                from autointerp.browser.static_site import write_site

                with RichReporter() as reporter:
                    n = write_site(run_folder, static, reporter, with_maps=with_map)
                print(f"{n} units written: {static / 'index.html'}, for any web host")
                return
            from autointerp.browser.serving import serve

            with RichReporter() as reporter:
                server = serve(run_folder, reporter, host=host, port=port, spend=spend)
            server.run(open_browser=open_browser)

        guarded(work)
