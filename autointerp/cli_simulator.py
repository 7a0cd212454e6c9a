"""`autointerp simulator …`: train small models that simulate, and average two of them."""

from pathlib import Path
from typing import Annotated

import typer

simulator_app = typer.Typer(help="Trained simulators.", no_args_is_help=True)


@simulator_app.command("train")
def train(
    config: Annotated[Path, typer.Argument(help="A YAML config; see docs/embedded-simulator.md.")],
    rows: Annotated[
        Path | None, typer.Option("--rows", help="Training rows; overrides the config's.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder to write; overrides the config's.")
    ] = None,
) -> None:
    """Train a simulator on planted concepts; run it again to go on."""
    from autointerp.cli import guarded

    def work() -> None:
        from rich.console import Console
        from rich.progress import Progress

        from autointerp.config import SimulatorTrainConfig, load_config
        from autointerp.train_simulator import train_simulator

        settings = load_config(config, SimulatorTrainConfig)
        changed = {"rows": rows, "output": output}
        settings = settings.model_copy(update={k: str(v) for k, v in changed.items() if v})
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("training", total=settings.n_steps)
            folder = train_simulator(
                settings,
                report=lambda p: bar.update(
                    task,
                    completed=p.step,
                    description=f"loss {p.cross_entropy:.3f}, correlation {p.correlation:.3f}",
                ),
            )
        print(f"trained: {folder}; use it with `simulator: {{name: embedded, model: {folder}}}`")

    guarded(work)


@simulator_app.command("mean")
def mean(
    first: Annotated[Path, typer.Argument(help="Folder of a trained simulator.")],
    second: Annotated[Path, typer.Argument(help="Another of the same shape and beginning.")],
    output: Annotated[Path, typer.Option("--output", help="Folder to write.")],
    share: Annotated[float, typer.Option("--share", help="Of the second in the mean.")] = 0.5,
) -> None:
    """The mean of two simulators' weights: often better than either, at the cost of one."""
    from autointerp.cli import guarded

    def work() -> None:
        from autointerp.simulators.reader import save_mean

        save_mean(first, second, share, output)
        print(f"written: {output}; use it with `simulator: {{name: embedded, model: {output}}}`")

    guarded(work)
