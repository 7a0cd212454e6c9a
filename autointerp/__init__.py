"""Automated interpretability: explain, simulate and score the units of a language model.

What a notebook needs. Everything is imported when it is first used, so that `import autointerp`
costs nothing:

    import autointerp

    config = autointerp.load_config("run.yaml")
    results = autointerp.run(config)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "AutointerpError": "autointerp.records",
    "Explanation": "autointerp.records",
    "RunConfig": "autointerp.config",
    "Score": "autointerp.records",
    "Simulation": "autointerp.records",
    "Split": "autointerp.records",
    "Status": "autointerp.records",
    "UnitId": "autointerp.records",
    "import_records": "autointerp.recording.imported",
    "load_sae": "autointerp.units.sae",
    "load_simulator": "autointerp.simulators",
    "load_subject": "autointerp.subject",
    "RunStore": "autointerp.store",
    "run": "autointerp.run",
    "run_status": "autointerp.store",
    "score_simulation": "autointerp.stats",
}

__all__ = [*_EXPORTS, "load_config"]

if TYPE_CHECKING:
    from autointerp.config import RunConfig


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
