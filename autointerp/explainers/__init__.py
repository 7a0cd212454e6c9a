"""Explainers: words for what a unit responds to, from its `explain` split alone.

A third party's explainer is found by the entry point group `autointerp.explainers`: the entry
point's name is the `type` in the config, its value a callable that takes the `ExplainerConfig` and
the run's seed and returns an `Explainer`:

    [project.entry-points."autointerp.explainers"]
    my_explainer = "my_package.explainers:make"
"""

from importlib.metadata import entry_points
from inspect import signature
from typing import TYPE_CHECKING, Any

from autointerp.explainers.agent import Agent
from autointerp.explainers.asking import Asking
from autointerp.explainers.base import Explainer, Explaining, ExplainView
from autointerp.explainers.best_of import BestOf
from autointerp.explainers.clusters import Clusters
from autointerp.explainers.contrastive import Contrastive
from autointerp.explainers.ensemble import Ensemble
from autointerp.explainers.fixed import Fixed
from autointerp.explainers.highlights import Highlights
from autointerp.explainers.intervals import Intervals
from autointerp.explainers.labels import Labels
from autointerp.explainers.max_act_logits import MaxActLogits
from autointerp.explainers.n2g import N2G
from autointerp.explainers.promoted_tokens import PromotedTokens
from autointerp.explainers.revision import Revision
from autointerp.explainers.short import Short
from autointerp.explainers.summary import Summary
from autointerp.explainers.token_activation_pairs import TokenActivationPairs
from autointerp.explainers.token_change import TokenChanges
from autointerp.explainers.token_lookup import TokenLookup
from autointerp.explainers.top_tokens import TopTokens
from autointerp.records import AutointerpError

if TYPE_CHECKING:  # the config imports the subject's room, and with it torch
    from autointerp.config import ExplainerConfig

__all__ = [
    "ENTRY_POINTS",
    "EXPLAINERS",
    "N2G",
    "Agent",
    "BestOf",
    "Clusters",
    "Contrastive",
    "Ensemble",
    "ExplainView",
    "Explainer",
    "Explaining",
    "Fixed",
    "Highlights",
    "Intervals",
    "Labels",
    "MaxActLogits",
    "PromotedTokens",
    "Revision",
    "Short",
    "Summary",
    "TokenActivationPairs",
    "TokenChanges",
    "TokenLookup",
    "TopTokens",
    "load_explainer",
]

ENTRY_POINTS = "autointerp.explainers"
"""Group of entry points in which third parties' explainers are found."""

EXPLAINERS: dict[str, type[Any]] = {
    "token_activation_pairs": TokenActivationPairs,
    "highlights": Highlights,
    "summary": Summary,
    "max_act_logits": MaxActLogits,
    "contrastive": Contrastive,
    "short": Short,
    "intervals": Intervals,
    "clusters": Clusters,
    "top_tokens": TopTokens,
    "promoted_tokens": PromotedTokens,
    "token_lookup": TokenLookup,
    "n2g": N2G,
    "fixed": Fixed,
    "labels": Labels,
    "best_of": BestOf,
    "revision": Revision,
    "token_change": TokenChanges,
    "agent": Agent,
    "ensemble": Ensemble,
}
"""Our own, by the `type` in the config; their keys there are `config.EXPLAINER_KEYS`."""


def load_explainer(config: "ExplainerConfig", seed: int = 0) -> Explainer:
    """Make the explainer a config describes.

    Args:
        config: its `type` is one of our own, or the name of an entry point.
        seed: the run's; decides the samples of explainers that sample.

    Raises:
        AutointerpError: where there is no such type, or its package cannot be loaded.
    """
    kind: str = config.type
    if kind not in EXPLAINERS:
        return _from_entry_point(kind, config, seed)
    make = EXPLAINERS[kind]
    options = config.options()
    if "seed" in signature(make).parameters or issubclass(make, Asking):
        options["seed"] = seed
    return make(config.name, **options)


def _from_entry_point(kind: str, config: "ExplainerConfig", seed: int) -> Explainer:
    found = entry_points(group=ENTRY_POINTS)
    if kind not in found.names:
        known = [*sorted(EXPLAINERS), *sorted(found.names)]
        raise AutointerpError(
            f"explainer {config.name!r}: there is no type {kind!r}; known are {', '.join(known)}"
        )
    try:
        make: Any = found[kind].load()
    except (ImportError, AttributeError) as error:
        raise AutointerpError(f"explainer type {kind!r} cannot be loaded: {error}") from error
    return make(config, seed)
