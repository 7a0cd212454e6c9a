"""Automated interpretability: explain, simulate and score the units of a language model.

What a notebook needs. Everything is imported when it is first used, so that `import autointerp`
costs nothing:

    import autointerp

    config = autointerp.load_config("run.yaml")
    results = autointerp.run(config)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autointerp.config import RunConfig
    from autointerp.recording.imported import import_records
    from autointerp.records import (
        AutointerpError,
        Explanation,
        Score,
        Simulation,
        Split,
        Status,
        UnitId,
    )
    from autointerp.runner import run, run_async
    from autointerp.simulators import load_simulator
    from autointerp.stats import score_simulation
    from autointerp.store import RunStore, run_status
    from autointerp.subject import load_subject
    from autointerp.units.sae import load_sae

__all__ = [
    "AutointerpError",
    "Explanation",
    "RunConfig",
    "RunStore",
    "Score",
    "Simulation",
    "Split",
    "Status",
    "UnitId",
    "import_records",
    "load_config",
    "load_sae",
    "load_simulator",
    "load_subject",
    "run",
    "run_async",
    "run_status",
    "score_simulation",
]

_HOMES = {
    "autointerp.config": ("RunConfig",),
    "autointerp.recording.imported": ("import_records",),
    "autointerp.records": (
        *("AutointerpError", "Explanation", "Score", "Simulation", "Split", "Status", "UnitId"),
    ),
    "autointerp.runner": ("run", "run_async"),
    "autointerp.simulators": ("load_simulator",),
    "autointerp.stats": ("score_simulation",),
    "autointerp.store": ("RunStore", "run_status"),
    "autointerp.subject": ("load_subject",),
    "autointerp.units.sae": ("load_sae",),
}
_EXPORTS = {name: module for module, names in _HOMES.items() for name in names}


def load_config(path: str) -> "RunConfig":
    """Read a run's YAML config; errors name the key's path, the value and what is allowed."""
    from autointerp.config import RunConfig, load_config

    return load_config(path, RunConfig)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'autointerp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
