"""An estimate as a table."""

from typing import Any

from autointerp.estimate.figures import RunEstimate, total


def print_estimate(found: RunEstimate, console: Any) -> None:
    """Print an estimate as a table on a rich console."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("stage", no_wrap=True)
    for name in ("calls", "tokens in", "cached", "out", "price", "batch", "hours"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in found.stages:
        table.add_row(
            stage.stage,
            f"{stage.calls:,}",
            _short(stage.input_tokens),
            _short(stage.cached_tokens),
            _short(stage.output_tokens),
            _money(stage.usd),
            _money(stage.usd_batch),
            _hours(stage.hours),
        )
    table.add_section()
    table.add_row(
        "recording", "", "", "", "", "", "",
        _hours(None if found.record_seconds is None else found.record_seconds / 3600),
    )  # fmt: skip
    table.add_row(
        "all",
        f"{sum(s.calls for s in found.stages):,}",
        _short(sum(s.input_tokens for s in found.stages)),
        _short(sum(s.cached_tokens for s in found.stages)),
        _short(sum(s.output_tokens for s in found.stages)),
        _money(found.usd), _money(found.usd_batch), _hours(found.hours),
    )  # fmt: skip
    console.print(table)
    stages: dict[str, list[str]] = {}
    for stage in found.stages:
        stages.setdefault(stage.model, []).append(stage.stage)
    for model, names in stages.items():
        console.print(f"{', '.join(names)}: {model}", highlight=False, markup=False)
    most = total([stage.most_usd for stage in found.stages])
    if most:
        console.print(f"at most {_money(most)}: every answer as long as it may be, nothing cached")
    console.print(f"disk: about {found.disk_bytes / 1e6:,.1f} MB")
    for note in found.notes:
        console.print(f"· {note}", highlight=False)
    for price in sorted({stage.price for stage in found.stages if stage.price}):
        console.print(f"· price of {price}", highlight=False)


def _short(tokens: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.1f} {unit}"
    return str(tokens)


def _money(usd: float | None) -> str:
    if usd is None:
        return "unknown"
    return "free" if usd == 0 else f"${usd:,.2f}" if usd >= 0.995 else f"${usd:.4f}"


def _hours(hours: float | None) -> str:
    if hours is None:
        return "unknown"
    if 0 < hours < 0.005:
        return "<0.01"
    return f"{hours:,.1f}" if hours >= 0.95 else f"{hours:.2f}"
