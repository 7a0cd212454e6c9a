"""A map of a source's decoder directions: units that write alike lie near each other.

    PCA    the two directions of most variance among the unit-length decoder rows, by the
           eigenvectors of their covariance; distances on the map are lower bounds of the true ones
    UMAP   McInnes et al. 2018, on cosine distances, where umap-learn is installed: neighbours stay
           neighbours, distances between groups mean little

A large source is sampled: explained units first, then others at random, as the page says.
"""

import contextlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np

from autointerp.browser.codes import source_bounds
from autointerp.browser.opened import OpenedRun
from autointerp.records import AutointerpError, UnitId, UsageError, derived_seed
from autointerp.stats.plane import has_umap, principal_plane, umap_plane
from autointerp.store import write_text

MOST_POINTS = {"pca": 20_000, "umap": 8_000}
"""Units on a map."""

_CHUNK = 2_048
MAP_VERSION = 1


class Maps:
    """Maps of a run's sources, made on demand and kept beside the index."""

    def __init__(self, run: OpenedRun) -> None:
        self.run = run

    # ------------------------------------------------------------------ in the loop

    def asked(self, parameters: Mapping[str, str]) -> tuple[str, str]:
        """Source and method of an address.

        Raises:
            UsageError: for one that there is not.
        """
        source = parameters.get("source") or self.run.sources[0]
        method = parameters.get("method") or "pca"
        if source not in self.run.sources:
            known = ", ".join(self.run.sources)
            raise UsageError(f"source={source[:80]!r}: it is one of {known}")
        if method not in MOST_POINTS:
            raise UsageError(f"method={method[:40]!r}: it is pca or umap")
        return source, method

    def page(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """What the page shows before the points arrive."""
        source, method = self.asked(parameters)
        return {
            "source": source,
            "sources": self.run.sources,
            "method": method,
            "has_umap": has_umap(),
            "q": parameters.get("q", "")[:200],
            "unit": parameters.get("unit", "")[:300],
            "is_kept": self.kept(source, method) is not None,
            "points_at": f"/map.json?{urlencode({'source': source, 'method': method})}",
            "unit_root": f"/unit/{quote(source, safe='')}/",
        }

    def kept(self, source: str, method: str) -> dict[str, Any] | None:
        """The map as it was made from the present files; `None` where it was not."""
        path = self._path(source, method)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if found.get("made_from") == self._made_from(source) else None

    def _path(self, source: str, method: str) -> Any:
        return self.run.folder / f"browser.map.{source}.{method}.json"

    def _made_from(self, source: str) -> list[Any]:
        stat = self.run.table.stat()
        return [MAP_VERSION, source, stat.st_size, stat.st_mtime_ns]

    # ------------------------------------------------------------------ in the worker

    def make(self, source: str, method: str) -> dict[str, Any]:
        """Place the units of a source, and keep the map.

        Raises:
            AutointerpError: where the source writes nothing, or what is needed is not there.
        """
        kept = self.kept(source, method)
        if kept is not None:
            return kept
        if method == "umap" and not has_umap():
            raise AutointerpError(
                "UMAP needs umap-learn, which is not installed: pip install 'autointerp[umap]', "
                "or choose principal components"
            )
        units, n_units = self._chosen(source, MOST_POINTS[method])
        rows = self._directions(source, units)
        if method == "pca":
            places, share = principal_places(rows)
        else:
            places, share = _umap_places(rows, self._seed(source)), None
        made = self._written(source, method, units, places, n_units, share)
        text = json.dumps(made, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        # In a folder that cannot be written the map is made again next time.
        with contextlib.suppress(OSError):
            write_text(self._path(source, method), text)
        return made

    def _seed(self, source: str) -> int:
        return derived_seed(int(self.run.config.get("seed") or 0), "map", source)

    def _chosen(self, source: str, most: int) -> tuple[list[UnitId], int]:
        """Explained units, then others at random, one side of each; and how many there are."""
        from autointerp.progress import Silent

        own = OpenedRun(self.run.folder, Silent())
        try:
            low, high = source_bounds(own.sources.index(source))
            inside = "id >= ? AND id < ?"
            explained = own.database.execute(
                f"SELECT id FROM units WHERE {inside} AND place IS NOT NULL", (low, high)
            ).fetchall()
            others = own.database.execute(
                f"SELECT id FROM units WHERE {inside} AND place IS NULL AND id & 1 = 0", (low, high)
            ).fetchall()
            generator = np.random.default_rng(self._seed(source))
            first = _sampled([row[0] for row in explained], most, generator)
            rest = _sampled([row[0] for row in others], most - len(first), generator)
            return [own.unit(code) for code in sorted(first + rest)], len(explained) + len(others)
        finally:
            own.close()

    @cached_property
    def _parts(self) -> Any:
        from autointerp.config import RunConfig, load_config
        from autointerp.parts import Parts
        from autointerp.store import RunStore

        config = load_config(self.run.folder / "config.yaml", RunConfig).without_remote_code()
        config = config.model_copy(update={"output": str(self.run.folder)})
        return Parts(config, RunStore(self.run.folder))

    def _directions(self, source: str, units: list[UnitId]) -> np.ndarray:
        """[n_units, d] unit-length directions, each with the sign of its side."""
        from autointerp.progress import Silent
        from autointerp.sources import make_source

        parts = self._parts
        made = make_source(source, parts.config, parts.subject, parts.store, Silent())
        if made is None:
            raise AutointerpError(
                f"{source} was recorded elsewhere: its directions are not known here"
            )
        rows: list[np.ndarray] = []
        for start in range(0, len(units), _CHUNK):
            part = units[start : start + _CHUNK]
            found = made.write_directions([unit.index for unit in part])
            if found is None:
                raise AutointerpError(f"the units of {source} write nothing that could be mapped")
            values = found.float().cpu().numpy()
            values = values * np.array([[unit.polarity] for unit in part], np.float32)
            size = np.linalg.norm(values, axis=1, keepdims=True)
            rows.append((values / np.maximum(size, 1e-12)).astype(np.float32))
        if len(units) < 3:
            raise AutointerpError(f"{source} has {len(units)} units: a map needs at least 3")
        return np.concatenate(rows)

    def _written(
        self,
        source: str,
        method: str,
        units: list[UnitId],
        places: np.ndarray,
        n_units: int,
        share: float | None,
    ) -> dict[str, Any]:
        """Points with words and lift, as the script draws them."""
        from autointerp.progress import Silent

        own = OpenedRun(self.run.folder, Silent())
        try:
            explainer = own.best_explainer
            view = own.views[explainer, own.primary_scorer]
            points: list[list[Any]] = []
            for unit, (x, y) in zip(units, places.tolist(), strict=True):
                code = own.code(unit)
                row = own.database.execute(
                    "SELECT lift FROM listed WHERE view = ? AND unit = ?", (view, code)
                ).fetchone()
                words = own.words(code, explainer) if row else None
                name = f"{unit.index}{'-' if unit.polarity < 0 else ''}"
                lift = row[0] if row else None
                points.append([name, round(x, 4), round(y, 4), lift, (words or "")[:200]])
        finally:
            own.close()
        return {
            "made_from": self._made_from(source),
            "source": source,
            "method": method,
            "explainer": explainer,
            "n_units": n_units,
            "n_points": len(points),
            "share_of_variance": share,
            "points": points,
        }


def principal_places(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Scores on the first two principal components, and the share of the variance on them.

    Args:
        rows: [n, d].

    Returns:
        [n, 2] places, the largest |value| of either axis 1; and the share.
    """
    places, share = principal_plane(rows)
    return _scaled(places), share


def _umap_places(rows: np.ndarray, seed: int) -> np.ndarray:
    places = umap_plane(rows, seed, n_neighbours=min(15, len(rows) - 1))
    return _scaled(places - (places.max(axis=0) + places.min(axis=0)) / 2)


def _scaled(places: np.ndarray) -> np.ndarray:
    """With the largest |value| of either axis 1."""
    return places / np.maximum(np.abs(places).max(axis=0), 1e-12)


def _sampled(codes: list[int], most: int, generator: np.random.Generator) -> list[int]:
    if len(codes) <= most:
        return codes
    chosen = generator.choice(len(codes), max(most, 0), replace=False)
    return [codes[i] for i in chosen]
