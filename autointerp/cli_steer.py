"""`autointerp steer`: parse, call, print."""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from autointerp.steering import LogitChange, SteerHow, Steering

RunOption = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's folder, such as results/demo, or a config.")
]
UnitArgument = Annotated[
    str, typer.Argument(metavar="UNIT", help="SOURCE/INDEX, or SOURCE/INDEX- for the other side.")
]

Guard = Callable[[Callable[[], None]], None]
"""Runs a command's work and turns errors into one line and an exit code."""

_guard: list[Guard] = []


def register(app: typer.Typer, guarded: Guard) -> None:
    """Add the command to the command line."""
    _guard[:] = [guarded]
    app.command("steer")(steer)


def steer(
    run: RunOption,
    unit: UnitArgument,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt", help="Text to continue; may be repeated; 'I think that' if left out."
        ),
    ] = None,
    strength: Annotated[
        list[float] | None,
        typer.Option(
            "--strength",
            help="Multiple of the largest activation, or factor; may be repeated; 1 and 3 if left "
            "out.",
        ),
    ] = None,
    how: Annotated[
        str, typer.Option("--how", help="clamp, add, scale or ablate (no strength).")
    ] = "clamp",
    positions: Annotated[
        str, typer.Option("--positions", help="Tokens touched: all, prompt, new or last.")
    ] = "all",
    kl: Annotated[
        float | None,
        typer.Option("--kl", help="Instead of --strength: how far predictions move, in nats."),
    ] = None,
    maximum: Annotated[
        float | None,
        typer.Option("--maximum", help="Largest activation, where none was recorded."),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", help="Tokens written.")] = 30,
    temperature: Annotated[
        float, typer.Option("--temperature", help="0 takes the likeliest token.")
    ] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", help="Nucleus that is drawn from.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the drawing.")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """What the subject writes with a unit held up or taken out, beside what it writes without.

    For example: `autointerp steer results/demo features/317 --prompt "The bridge" --strength 2`
    """

    def work() -> None:
        from autointerp.records import UsageError
        from autointerp.steering import DEFAULT_PROMPTS, DEFAULT_STRENGTHS, check_how, load_unit
        from autointerp.steering import steer as steer_unit

        check_how(how)  # before the subject is loaded, which takes long
        if positions not in ("all", "prompt", "new", "last"):
            raise UsageError(f"--positions {positions!r} is not one of all, prompt, new, last")
        if strength and (kl is not None or how == "ablate"):
            raise UsageError("--strength has no meaning beside --kl, or with --how ablate")
        what = load_unit(run, unit, maximum)
        from autointerp.subject import Sampling

        found = steer_unit(
            what,
            prompt or DEFAULT_PROMPTS,
            strength or DEFAULT_STRENGTHS,
            how=cast("SteerHow", how),
            positions=positions,
            kl=kl,
            sampling=Sampling(tokens, temperature, top_p, seed),
        )
        if json_output:
            print(json.dumps(found.as_json(), ensure_ascii=False))
        else:
            print_steering(found)

    _guard[0](work)


def print_steering(found: "Steering", console: Any = None) -> None:
    """Plain and steered texts side by side, and the tokens whose logits change most."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console(file=sys.stdout)
    level = "" if found.maximum is None else f", largest activation {found.maximum:.3g}"
    console.print(f"{found.unit}: {found.how} at {found.hook_point}{level}", highlight=False)
    for prompt in dict.fromkeys(text.prompt for text in found.texts):
        table = Table(title=Text(prompt), title_justify="left", show_lines=True)
        table.add_column("strength", justify="right")
        table.add_column("text", ratio=3)
        table.add_column("KL", justify="right")
        table.add_column("promoted", ratio=2)
        table.add_column("suppressed", ratio=2)
        for text in found.texts:
            if text.prompt == prompt:
                is_plain = text.strength is None
                # What the subject writes is data: no markup in it is followed.
                table.add_row(
                    "plain" if is_plain else found.how if found.how == "ablate" else
                    f"{text.strength:g}",
                    Text(text.text),
                    "" if is_plain else f"{text.kl:.3g}",
                    Text(_named(text.promoted)),
                    Text(_named(text.suppressed)),
                )  # fmt: skip
        console.print(table)


def _named(changes: "tuple[LogitChange, ...]") -> str:
    return "\n".join(f"{one.token!r} {one.change:+.2f}" for one in changes)
