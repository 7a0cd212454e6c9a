"""What `autointerp sae compare` writes: a summary, tables and figures."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from autointerp.records import Status, UsageError
from autointerp.sae_compare import Comparison, Side
from autointerp.units.sae.comparison import (
    BestMatches,
    Floats,
    Integers,
    Splitting,
    neighbourhood,
    neighbourhood_in,
)
from autointerp.units.sae.maps import flat_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (0.5, 0.7, 0.9)
"""Correlations above which latents are counted."""

_MOST_CHILDREN = 5
"""Larger families are counted together in the figure."""

Row = dict[str, object]


def summary(found: Comparison) -> dict[str, Any]:
    """The numbers that are looked at first, for JSON; a missing number is `None`."""
    universality = {
        "a_in_b": _universality(found.matches_a, found.control_a),
        "b_in_a": _universality(found.matches_b, found.control_b),
        "n_mutual": int(found.is_mutual.sum()),
    }
    decoders = None
    if found.decoders is not None:
        decoders = {
            "mean_max_cosine_a_in_b": float(found.decoders.cosine_a.mean()),
            "mean_max_cosine_b_in_a": float(found.decoders.cosine_b.mean()),
        }
    return {
        "a": _facts(found.a),
        "b": _facts(found.b),
        "n_tokens": found.n_tokens,
        "n_documents": found.n_documents,
        "aligned_by": found.aligned_by,
        "universality": universality,
        "decoders": decoders,
        "splitting": None if found.splitting is None else _families(found, found.splitting),
    }


def _facts(side: Side) -> Row:
    return {
        "name": side.name,
        "architecture": side.sae.architecture,
        "n_latents": side.sae.n_latents,
        "subject": side.subject.name,
        "hook_in": side.sae.hook_in,
        "hook_out": side.sae.hook_out,
        "fingerprint": side.sae.fingerprint(),
    }


def _universality(matches: BestMatches, control: BestMatches) -> Row:
    """Of the latents that are compared: best correlations, and those on other text."""
    r, chance = matches.correlation[matches.known], control.correlation[control.known]
    n_active = int((matches.n_active > 0).sum())
    counts = {
        "n_compared": len(r),
        "n_insufficient_data": n_active - len(r),
        "n_dead": matches.n_dead,
    }
    if not len(r):
        return {**counts, "mean": None, "median": None}
    highest = float(np.quantile(chance, 0.99)) if len(chance) else None
    return {
        **counts,
        "mean": float(r.mean()),
        "median": float(np.median(r)),
        **{f"share_above_{level}": float((r > level).mean()) for level in LEVELS},
        "control_mean": float(chance.mean()) if len(chance) else None,
        "control_99%": highest,
        "share_above_control_99%": None if highest is None else float((r > highest).mean()),
    }


def _families(found: Comparison, splitting: Splitting) -> Row:
    n = splitting.n_children
    fired = (splitting.n_narrow > 0) & (n > 0)
    covered = splitting.n_covered[fired] / splitting.n_narrow[fired]
    return {
        "narrow": found.narrow.name,
        "wide": found.wide.name,
        "n_gone": int((n == 0).sum()),
        "n_kept": int((n == 1).sum()),
        "n_split": int((n > 1).sum()),
        "n_new": int((splitting.parent < 0).sum()),
        "mean_children": float(n.mean()),
        "mean_coverage": float(covered.mean()) if len(covered) else None,
    }


def universality_rows(found: Comparison) -> Iterator[Row]:
    """A row for every latent of either dictionary."""
    mutual_b = np.zeros(found.b.sae.n_latents, bool)
    mutual_b[found.matches_a.latent[found.is_mutual]] = True
    d = found.decoders
    nearest_a = None if d is None else (d.nearest_a, d.cosine_a)
    nearest_b = None if d is None else (d.nearest_b, d.cosine_b)
    yield from _rows_of(
        found.a, found.b, found.matches_a, found.control_a, found.is_mutual, nearest_a
    )
    yield from _rows_of(found.b, found.a, found.matches_b, found.control_b, mutual_b, nearest_b)


def _rows_of(
    side: Side,
    other: Side,
    matches: BestMatches,
    control: BestMatches,
    is_mutual: np.ndarray,
    nearest: tuple[Integers, Floats] | None,
) -> Iterator[Row]:
    cosines = None if nearest is None else _row_cosines(side, other, matches.latent)
    for i in range(side.sae.n_latents):
        known = bool(matches.known[i])
        row: Row = {
            "dictionary": side.name,
            "latent": i,
            "n_active": int(matches.n_active[i]),
            "status": _status(matches, i),
            "match": int(matches.latent[i]) if known else None,
            "correlation": float(matches.correlation[i]) if known else None,
            "control": float(control.correlation[i]) if control.known[i] else None,
            "is_mutual": bool(is_mutual[i]) if known else None,
        }
        if nearest is not None and cosines is not None:
            row["match_cosine"] = float(cosines[i]) if known else None
            row |= {"nearest": int(nearest[0][i]), "nearest_cosine": float(nearest[1][i])}
        yield row


def _status(matches: BestMatches, i: int) -> str:
    if matches.known[i]:
        return Status.OK
    return Status.INSUFFICIENT_DATA if matches.n_active[i] else Status.DEAD


def _row_cosines(side: Side, other: Side, latents: Integers) -> Floats:
    """[n] cosine of each decoder row with that of its match."""
    theirs = other.sae.W_dec[torch.from_numpy(latents.clip(0))]
    return torch.cosine_similarity(side.sae.W_dec, theirs, dim=1).double().numpy()


def splitting_rows(splitting: Splitting) -> Iterator[Row]:
    """A row for every latent of the wide dictionary: what it came of."""
    for i, parent in enumerate(splitting.parent.tolist()):
        n_wide, n_both = int(splitting.n_wide[i]), int(splitting.n_both[i])
        n_parent = int(splitting.n_narrow[parent]) if parent >= 0 else 0
        has = parent >= 0
        yield {
            "latent": i,
            "parent": parent if has else None,
            "cosine": float(splitting.cosine[i]),
            "n_active": n_wide,
            "n_parent": n_parent if has else None,
            "n_both": n_both if has else None,
            "p_wide_given_narrow": n_both / n_parent if n_parent else None,
            "p_narrow_given_wide": n_both / n_wide if has and n_wide else None,
            "correlation": float(splitting.correlation[i]) if n_parent and n_wide else None,
        }


def family_rows(splitting: Splitting) -> Iterator[Row]:
    """A row for every latent of the narrow dictionary: what it became."""
    n_children = splitting.n_children
    order = np.argsort(splitting.parent, kind="stable")
    families = np.split(order, np.cumsum(np.append((splitting.parent < 0).sum(), n_children)))
    for i, n in enumerate(n_children.tolist()):
        active = int(splitting.n_narrow[i])
        yield {
            "latent": i,
            "n_active": active,
            "fate": "gone" if n == 0 else "kept" if n == 1 else "split",
            "n_children": n,
            "children": " ".join(map(str, families[i + 1].tolist())),
            "p_any_child_given_narrow": int(splitting.n_covered[i]) / active if active else None,
        }


def neighbour_rows(found: Comparison, latents: list[int], k: int) -> Iterator[Row]:
    """The nearest latents of some of a's, in a itself and, where that makes sense, in b.

    Raises:
        UsageError: for a latent that a does not have.
    """
    a, b = found.a, found.b
    if latents and not a.sae.has_decoder:
        raise UsageError(f"{a.name} has no decoder, so none of its latents has neighbours")
    for latent in latents:
        if not 0 <= latent < a.sae.n_latents:
            raise UsageError(f"{a.name} has the latents 0 to {a.sae.n_latents - 1}, not {latent}")
        near = [(a, neighbourhood(a.sae.W_dec, latent, k))]
        if found.decoders is not None:
            near.append((b, neighbourhood_in(a.sae.W_dec[latent], b.sae.W_dec, k)))
        for side, those in near:
            for rank, (i, cosine) in enumerate(zip(those.latents, those.cosines, strict=True), 1):
                facts = {"dictionary": side.name, "neighbour": i, "cosine": cosine}
                yield {"latent": latent, "rank": rank, **facts}


def map_rows(found: Comparison, seed: int = 0) -> tuple[list[Row], str]:
    """Places on a plane of all latents that write to one space, and how they were found.

    Only a's latents are there where b writes to another space. Rows of zeros are left out.
    """
    parts: list[tuple[Side, BestMatches, Any]] = [(found.a, found.matches_a, found.a.sae.W_dec)]
    if found.decoders is not None:
        parts.append((found.b, found.matches_b, found.b.sae.W_dec))
    rows: list[Row] = []
    kept: list[torch.Tensor] = []
    for side, matches, W_dec in parts:
        alive = W_dec.norm(dim=1) > 0
        kept.append(W_dec[alive])
        for i in alive.nonzero().flatten().tolist():
            n_active = int(matches.n_active[i])
            rows.append({"dictionary": side.name, "latent": i, "n_active": n_active})
    places, method = flat_map(torch.cat(kept), seed)
    for row, (x, y) in zip(rows, places.tolist(), strict=True):
        row |= {"x": x, "y": y}
    return rows, method


def write_comparison(
    found: Comparison,
    folder: Path,
    *,
    latents: list[int] | None = None,
    n_neighbours: int = 10,
    with_map: bool = True,
    report: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write the summary, the tables and the figures.

    Args:
        found: what to write.
        folder: made if it is not there.
        latents: of a, whose neighbours are listed and shown on the map.
        n_neighbours: of each of them, in either dictionary.
        with_map: whether to make the map, which takes up to a minute for 6,000 latents.
        report: told what is going on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[Row]] = {"universality": list(universality_rows(found))}
    figures: dict[str, Figure] = {"universality": universality_figure(found)}
    if found.splitting is not None:
        tables["splitting"] = list(splitting_rows(found.splitting))
        tables["families"] = list(family_rows(found.splitting))
        figures["splitting"] = splitting_figure(found, found.splitting)
    near = list(neighbour_rows(found, latents or [], n_neighbours))
    if near:
        tables["neighbours"] = near
    facts = summary(found)
    if with_map and found.a.sae.has_decoder:
        if report is not None:
            report("mapping")
        rows, method = map_rows(found)
        tables["map"] = rows
        figures["map"] = map_figure(rows, method, near)
        facts["map"] = method
    written = [folder / "comparison.json"]
    written[0].write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    for name, table in tables.items():
        written.append(_write_table(table, folder / f"{name}.csv"))
    for name, figure in figures.items():
        for suffix in ("png", "svg"):
            written.append(folder / f"{name}.{suffix}")
            figure.savefig(written[-1], dpi=150)
    return written


def _write_table(rows: list[Row], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(dict.fromkeys(k for row in rows for k in row)))
        writer.writeheader()
        writer.writerows({k: _text(v) for k, v in row.items()} for row in rows)
    return path


def _text(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def universality_figure(found: Comparison) -> "Figure":
    """How many latents have which best correlation, and on other text."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    bins = np.linspace(0, 1, 41).tolist()
    for number, (side, other, matches, control) in enumerate(
        (
            (found.a, found.b, found.matches_a, found.control_a),
            (found.b, found.a, found.matches_b, found.control_b),
        ),
        1,
    ):
        axes = figure.add_subplot(1, 2, number)
        r, chance = matches.correlation[matches.known], control.correlation[control.known]
        axes.hist(r.clip(0), bins, color="tab:blue", alpha=0.6, label="same text")
        axes.hist(chance.clip(0), bins, color="0.3", histtype="step", label="other text")
        axes.set(
            xlabel=f"best correlation with a latent of {other.name}",
            ylabel=f"latents of {side.name}",
            title=f"{len(r):,} of {len(matches.known):,} latents compared",
            xlim=(0, 1),
        )
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return figure


def splitting_figure(found: Comparison, splitting: Splitting) -> "Figure":
    """Sizes of families, and when children fire."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    sizes, chances = figure.subplots(1, 2)
    counts = np.bincount(splitting.n_children.clip(max=_MOST_CHILDREN), minlength=6)
    bars = sizes.bar(range(len(counts)), counts, color="tab:blue", alpha=0.7)
    sizes.bar_label(bars, fontsize="small")
    sizes.set_xticks(range(6), [*map(str, range(_MOST_CHILDREN)), f"≥ {_MOST_CHILDREN}"])
    sizes.set(
        xlabel=f"latents of {found.wide.name} that came of it",
        ylabel=f"latents of {found.narrow.name}",
    )
    sizes.margins(y=0.1)
    rows = [row for row in splitting_rows(splitting) if row["correlation"] is not None]
    dots = chances.scatter(
        [row["p_wide_given_narrow"] for row in rows],  # pyright: ignore[reportArgumentType]
        [row["p_narrow_given_wide"] for row in rows],  # pyright: ignore[reportArgumentType]
        c=[row["cosine"] for row in rows],
        s=9,
        cmap="viridis",
        vmin=min((float(row["cosine"]) for row in rows), default=0.0),  # pyright: ignore[reportArgumentType]
        vmax=1.0,
        alpha=0.7,
        linewidths=0,
    )
    if rows:
        figure.colorbar(dots, ax=chances, label="decoder cosine")
    chances.set(
        xlabel="P(child fires | parent fires)",
        ylabel="P(parent fires | child fires)",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    chances.grid(alpha=0.3)
    return figure


def map_figure(rows: list[Row], method: str, near: list[Row]) -> "Figure":
    """All latents on the plane; the wanted ones and their neighbours in colour, numbered."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(str(row["dictionary"]) for row in rows))
    labels = [names[0], *(f"{name} (numbers with ′)" for name in names[1:])]
    place = {(row["dictionary"], row["latent"]): (row["x"], row["y"]) for row in rows}
    for name, label, colour in zip(names, labels, ("tab:blue", "tab:orange"), strict=False):
        own: Any = [xy for (of, _), xy in place.items() if of == name]
        axes.scatter(*zip(*own, strict=True), s=4, alpha=0.45, color=colour, lw=0, label=label)
    for number, latent in enumerate(dict.fromkeys(row["latent"] for row in near)):
        those = [(names[0], latent)]
        those += [(row["dictionary"], row["neighbour"]) for row in near if row["latent"] == latent]
        shown = [each for each in those if each in place]
        colour = f"C{2 + number % 8}"
        spots: Any = [place[each] for each in shown]
        axes.scatter(*zip(*spots, strict=True), s=22, color=colour, label=f"near {latent}")
        for (name, i), spot in zip(shown, spots, strict=True):
            mark = "" if name == names[0] else "′"
            axes.annotate(f"{i}{mark}", spot, fontsize=7, xytext=(3, 3), textcoords="offset points")
    what = "UMAP" if method == "umap" else "principal components"
    axes.set(title=f"decoder rows by cosine ({what})", xticks=[], yticks=[])
    axes.legend(fontsize="small", markerscale=2)
    return figure
