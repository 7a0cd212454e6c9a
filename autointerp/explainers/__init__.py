"""Explainers: words for what a unit responds to, from its `explain` split alone.

A third party's explainer is found by the entry point group `autointerp.explainers`: the entry
point's name is the `type` in the config, its value a callable that takes the `ExplainerConfig` and
the run's seed and returns an `Explainer`:

    [project.entry-points."autointerp.explainers"]
    my_explainer = "my_package.explainers:make"
"""

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from autointerp.explainers.base import Explainer, Explaining, ExplainView
from autointerp.explainers.token_activation_pairs import TokenActivationPairs
from autointerp.explainers.token_lookup import TokenLookup
from autointerp.explainers.top_tokens import TopTokens
from autointerp.records import AutointerpError

if TYPE_CHECKING:  # the config imports the subject's room, and with it torch
    from autointerp.config import ExplainerConfig

__all__ = [
    "ENTRY_POINTS",
    "ExplainView",
    "Explainer",
    "Explaining",
    "TokenActivationPairs",
    "TokenLookup",
    "TopTokens",
    "load_explainer",
]

ENTRY_POINTS = "autointerp.explainers"
"""Group of entry points in which third parties' explainers are found."""


def load_explainer(config: "ExplainerConfig", seed: int = 0) -> Explainer:
    """Make the explainer a config describes.

    Args:
        config: its `type` is one of our own, or the name of an entry point.
        seed: the run's; decides the samples of explainers that sample.

    Raises:
        AutointerpError: where there is no such type, or its package cannot be loaded.
    """
    kind: str = config.type
    if kind == "token_activation_pairs":
        return TokenActivationPairs(
            config.name,
            n_windows=config.n_windows,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            seed=seed,
        )
    if kind == "top_tokens":
        return TopTokens(config.name, config.n_tokens)
    if kind == "token_lookup":
        return TokenLookup(config.name)
    return _from_entry_point(kind, config, seed)


def _from_entry_point(kind: str, config: "ExplainerConfig", seed: int) -> Explainer:
    found = entry_points(group=ENTRY_POINTS)
    if kind not in found.names:
        known = ["token_activation_pairs", "token_lookup", "top_tokens", *sorted(found.names)]
        raise AutointerpError(
            f"explainer {config.name!r}: there is no type {kind!r}; known are {', '.join(known)}"
        )
    try:
        make: Any = found[kind].load()
    except (ImportError, AttributeError) as error:
        raise AutointerpError(f"explainer type {kind!r} cannot be loaded: {error}") from error
    return make(config, seed)
