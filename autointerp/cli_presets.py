"""`autointerp presets`: parse, call, print."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

Guard = Callable[[Callable[[], None]], None]
"""Runs a command's work and turns errors into one line and an exit code."""

_guard: list[Guard] = []


def register(app: typer.Typer, guarded: Guard) -> None:
    """Add the command to the command line."""
    _guard[:] = [guarded]
    app.command("presets")(presets)


def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="PRESET", help="Show what this one stands for.")
    ] = None,
    faithful: Annotated[
        bool, typer.Option("--faithful", help="As published also where ours is another behaviour.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Published protocols by name, or the config values that one of them stands for.

    Write `preset: NAME` into a config, or give `autointerp run CONFIG --preset NAME`.
    """

    def work() -> None:
        from autointerp.presets import PRESETS, load_preset
        from autointerp.records import UsageError

        if name is None:
            if faithful:
                raise UsageError("--faithful is of one preset: autointerp presets NAME --faithful")
            known = [load_preset(each) for each in PRESETS]
            if json_output:
                print(json.dumps({one.name: one.title for one in known}))
                return
            width = max(map(len, PRESETS))
            for one in known:
                print(f"{one.name:<{width}}  {one.title}")
                print(f"{'':<{width}}  {one.source}")
            return
        preset = load_preset(name)
        values = preset.values(faithful=faithful)
        if json_output:
            facts: dict[str, Any] = {"name": name, "faithful": faithful, "config": values}
            facts |= {"source": preset.source, "differs": list(preset.differs)}
            print(json.dumps(facts, ensure_ascii=False))
            return
        import yaml

        print(f"# {preset.title}\n# {preset.source}\n#\n# What is not as published:")
        for line in preset.differs:
            print(f"# - {line}")
        if faithful:
            print("#\n# --faithful changes: " + json.dumps(preset.faithful))
        print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100), end="")

    _guard[0](work)
