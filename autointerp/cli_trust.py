"""Commands that tell how far numbers can be trusted: `verify`, `audit`, `plant`, `selftest`."""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from autointerp.names import printable

RunFolder = Annotated[Path, typer.Argument(help="A run's folder, such as results/demo.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

Guard = Callable[[Callable[[], None]], None]
"""Runs a command's work and turns errors into one line and an exit code."""


def register(app: typer.Typer, guarded: Guard) -> None:
    """Add the commands to the command line."""

    @app.command()
    def verify(
        run_folder: RunFolder,
        trace: Annotated[
            str | None,
            typer.Option("--trace", metavar="UNIT", help="Show what this unit's scores come from."),
        ] = None,
        tolerance: Annotated[
            float, typer.Option("--tolerance", min=0, help="Differences up to this are none.")
        ] = 1e-9,
        json_output: JsonOption = False,
    ) -> None:
        """Recompute all scores of a run from what it stored; exit code 1 where one differs."""
        guarded(lambda: _verify(run_folder, trace, tolerance, json_output))

    @app.command()
    def audit(
        run_folder: RunFolder,
        top: Annotated[
            float, typer.Option("--top", help="Share of the units that are selected, by lift.")
        ] = 0.25,
        reference: Annotated[
            bool, typer.Option(help="Score as many of the other units, for comparison.")
        ] = True,
        dry: Annotated[
            bool, typer.Option("--dry", help="Say what it costs, and read nothing.")
        ] = False,
        json_output: JsonOption = False,
    ) -> None:
        """Score the best units once more, on documents held back: by how much do they fall?"""
        guarded(lambda: _audit(run_folder, top, reference, dry, json_output))

    @app.command()
    def plant(
        folder: Annotated[Path, typer.Argument(help="A folder to make.")],
        seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights and texts.")] = 0,
        texts: Annotated[int, typer.Option("--texts", min=20, help="How many texts.")] = 300,
    ) -> None:
        """Write a small model with planted units: what each responds to and does is computed."""

        def work() -> None:
            from autointerp.planted import UNITS, write_folder

            write_folder(folder, seed=seed, n_texts=texts)
            print(f"{len(UNITS)} units in {folder}: model, dictionary, texts, true explanations")
            print(f"now: autointerp run {shlex.quote(str(folder / 'config.yaml'))}")

        guarded(work)

    @app.command()
    def selftest(json_output: JsonOption = False) -> None:
        """The gates: does this program measure what it claims? Needs no network; about a minute."""
        guarded(lambda: _selftest(json_output))


def _selftest(as_json: bool) -> None:
    from autointerp.gates import Gate, run_gates

    def say(gate: Gate) -> None:
        print(f"{gate.name:>6}  {gate.outcome:<8} {gate.claim}\n{'':16} {gate.found}", flush=True)

    gates = run_gates(None if as_json else say)
    if as_json:
        print(json.dumps([vars(gate) for gate in gates], indent=2))
    if any(gate.outcome == "failed" for gate in gates):
        raise typer.Exit(1)


def _audit(folder: Path, top: float, reference: bool, dry: bool, as_json: bool) -> None:
    from autointerp.audit import audit_run
    from autointerp.cli import RichReporter

    def say(costs: list[Any]) -> None:
        for cost in costs:
            money = "price unknown" if cost.most_usd is None else f"at most ${cost.most_usd:.4f}"
            print(
                f"{cost.simulator}: {cost.n_explanations} explanations, {cost.n_simulations} "
                f"simulations, {cost.calls} calls, {cost.input_tokens:,} tokens, {money}",
                file=sys.stderr,
            )

    with RichReporter(quiet=as_json) as reporter:
        found = audit_run(
            folder, top=top, reference=reference, dry=dry, reporter=reporter, on_cost=say
        )
    if as_json:
        print(json.dumps(found, indent=2))
        return
    if not dry:
        from rich.console import Console

        from autointerp.viewer.audit_table import audit_table

        Console().print(audit_table(found))
    for one in found["missing"]:
        why = f" ({one['reason']})" if one["reason"] else ""
        print(printable(f"{one['n']} {one['what']}: {one['status']}{why}"))


def _verify(folder: Path, trace: str | None, tolerance: float, as_json: bool) -> None:
    if trace:
        from autointerp.trace import trace_lines, trace_unit

        found = trace_unit(folder, trace)
        shown = json.dumps(found, indent=2) if as_json else "\n".join(trace_lines(found))
        print(printable(shown))
        return
    from autointerp.verify import verify_run

    verified = verify_run(folder, tolerance)
    if as_json:
        print(json.dumps(verified.as_json(), indent=2))
    else:
        _print_verified(verified)
    if not verified.is_exact:
        raise typer.Exit(1)


def check_llm_judge(model: str, base_url: str | None, units: int | None, as_json: bool) -> None:
    """Check a language model as a judge, and print what is found."""
    from rich.console import Console
    from rich.progress import Progress

    from autointerp.analysis.check_llm import askable, check_llm, spread_units
    from autointerp.analysis.known_answers import known_answers
    from autointerp.config import LlmConfig, parse_config
    from autointerp.llm import ClientOptions, load_client
    from autointerp.llm.prices import load_prices
    from autointerp.viewer.judge_table import llm_judge_table

    answers = known_answers()
    total = len(spread_units(askable(answers), units))
    settings = parse_config({"model": model, "base_url": base_url}, LlmConfig, "--llm")
    client = load_client(model, ClientOptions.of(settings))
    price = load_prices().find(model, vendor=base_url is None)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("units", total=total)
        report = check_llm(
            client, answers, n_units=units, price=price, on_unit=lambda: bar.advance(task)
        )
    if as_json:
        print(json.dumps(report.as_dict(), indent=2, allow_nan=False))
    else:
        Console().print(llm_judge_table(report))
        Console().print(report.verdict, markup=False)


_MOST_SHOWN = 20
"""Differences that are printed; all of them are in the JSON."""


def _print_verified(verified: Any) -> None:
    n = verified.n_recomputed
    print(
        f"{n} scores recomputed from stored activations and answers: {verified.n_differing} "
        f"differ; the largest difference of any number is {verified.max_difference:.3g}"
    )
    if verified.n_table_rows:
        changed = Counter(one.file for one in verified.differences if one.file != "results.sqlite")
        told = ", ".join(f"{n} values of {name} differ" for name, n in changed.items())
        print(f"{verified.n_table_rows} rows of the tables made again: {told or 'none differs'}")
    if verified.n_choices:
        print(f"{verified.n_choices} choices among explanations made again")
    for why, count in sorted(verified.not_recomputed.items()):
        print(f"not recomputed: {count} {why}")
    if not n:
        listed = f", and the tables list {verified.n_published}" * bool(verified.n_published)
        print(
            f"no score could be recomputed{listed}: so nothing is known of these scores: give the "
            "run's config.yaml to `autointerp run` again, then verify",
            file=sys.stderr,
        )
    for link in verified.broken_links:
        print(f"broken link: {link}", file=sys.stderr)
    for one in verified.differences[:_MOST_SHOWN]:
        names = [one.file if one.file != "results.sqlite" else "", one.unit, one.explainer]
        place = " ".join(name for name in (*names, one.scorer) if name)
        said = f"{place}: {one.field} is stored as {one.stored}, recomputed {one.found}"
        print(printable(said), file=sys.stderr)
    if len(verified.differences) > _MOST_SHOWN:
        rest = len(verified.differences) - _MOST_SHOWN
        print(f"… and {rest} more; --json has all", file=sys.stderr)
