"""Joins what a unit responds to with what it writes (Gur-Arieh et al. 2025, ensembles).

    raw      texts with highlights (MaxAct), tokens that rise and fall under clamping (TokenChange)
             and promoted tokens (VocabProj) in one question
    concat   an explanation by `highlights` and one by `token_change`, one after the other

In the source an ensemble of both sides does best on input- and output-based evaluations alike.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, Literal

from autointerp.explainers.asking import Shown
from autointerp.explainers.base import ExplainView, dead
from autointerp.explainers.highlights import Highlights
from autointerp.explainers.token_change import PROMPTS, TokenChanges, effects
from autointerp.explainers.windows import Sampling
from autointerp.records import Explanation, Status, UsageError, content_key
from autointerp.subject.requests import TokenChangeRequest

_VERSION = 1

Join = Literal["raw", "concat"]
"""Whether evidence is put together, or descriptions."""


class Ensemble(Highlights):
    """Explains a unit by both of its sides."""

    kind = "ensemble"
    touches_subject = True
    version = _VERSION

    def __init__(
        self,
        name: str = "",
        *,
        join: Join = "raw",
        n_windows: int = 40,
        sampling: Sampling = "interval",
        values: bool = True,
        strength: float = 1.0,
        n_tokens: int = 25,
        prompt: str | None = None,
        **common: Any,
    ) -> None:
        """Set it up; see `Highlights` and `TokenChanges` for what is shown.

        Args:
            name: as in the config.
            join: `raw` shows all evidence in one question; `concat` joins two explanations.
            n_windows: most windows shown.
            sampling: how they are chosen.
            values: whether levels are listed.
            strength: multiple of the largest activation that the unit is clamped to.
            n_tokens: tokens shown of each kind.
            prompt: of `raw`.
            common: see `Asking`.

        Raises:
            UsageError: for a template of `concat`, which has none of its own.
        """
        if join not in ("raw", "concat"):
            raise UsageError(f"explainer {name!r}: join is {join!r}; set raw or concat")
        if join == "concat" and prompt is not None:
            raise UsageError(
                f"explainer {name!r}: join concat asks with the templates of highlights and "
                "token_change; leave `prompt` out, or set join to raw"
            )
        shown = {"n_windows": n_windows, "sampling": sampling, "values": values}
        super().__init__(name, prompt=prompt, **shown, **common)
        self.join: Join = join
        self.strength, self.n_tokens = strength, n_tokens
        self.responds = Highlights(self.name, **shown, **common)
        self.writes = TokenChanges(self.name, n_tokens=n_tokens, strength=strength, **common)
        parts = (self.responds, self.writes) if join == "concat" else ()
        self.fingerprint = content_key(
            "explainer",
            raw=self.fingerprint,
            join=join,
            strength=strength,
            n_tokens=n_tokens,
            parts=[part.fingerprint for part in parts],
        )

    def explain(
        self, view: ExplainView, key: str
    ) -> Generator[Sequence[Any], Sequence[Any], Explanation]:
        """Ask about both sides. See `Explainer.explain`."""
        unexplained = dead(view, self.name, key)
        if unexplained is not None:
            return unexplained
        if self.join == "concat":
            responds = yield from self.responds.explain(view, key)
            writes = yield from self.writes.explain(view, key)
            return self._joined(responds, writes)
        shown = self.shown(view)
        if isinstance(shown, str):
            return Explanation(view.unit, self.name, None, Status.INSUFFICIENT_DATA, key, shown)
        (found,) = yield [TokenChangeRequest(view.unit, PROMPTS, self.strength, self.n_tokens)]
        changed = effects(view, found, self.n_tokens)
        if isinstance(changed, str):
            return Explanation(view.unit, self.name, None, Status.INSUFFICIENT_DATA, key, changed)
        both = Shown(
            {**shown.fields, **changed.fields},
            shown.windows,
            {**shown.details, **changed.details},
        )
        responses = yield [self.request(view, both, n) for n in range(self.n_samples)]
        return self.explained(view, key, both, responses)

    def _joined(self, responds: Explanation, writes: Explanation) -> Explanation:
        """Both descriptions, or why there are not two: one alone would be no ensemble."""
        parts = {"responds": responds, "writes": writes}
        details = {
            "parts": {
                name: {"text": part.text, "reason": part.reason, **part.details}
                for name, part in parts.items()
            },
            "usage": _summed(responds, writes),
        }
        missing = [(name, part) for name, part in parts.items() if part.text is None]
        if missing:
            ((name, part), *_) = missing
            side = "what it responds to" if name == "responds" else "what it writes"
            reason = f"no words for {side}: {part.reason}"
            return replace(part, text=None, reason=reason, details=details)
        one, other = str(responds.text), str(writes.text)
        text = one if one.casefold() == other.casefold() else f"{one}; {other}"
        return replace(responds, text=text, details=details)


def _summed(*parts: Explanation) -> dict[str, int]:
    found: list[dict[str, int]] = [part.details.get("usage") or {} for part in parts]
    return {name: sum(one.get(name, 0) for one in found) for one in found for name in one}
