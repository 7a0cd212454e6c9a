"""What explainers and scorers ask of a live subject, as they ask a language model by `llm.Request`.

They stay generators that hold no model: a handler of the driver (`autointerp.live`) answers. Every
request can make up an answer of the right form, so that a run can be estimated without a subject.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autointerp.records import UnitId, Window

FloatArray = npt.NDArray[np.float32]

_MADE_UP_TOKENS = 12


@dataclass(frozen=True)
class Activated:
    """What a unit did on a text."""

    tokens: tuple[str, ...]
    """[n_tokens] texts of the tokens, as the subject read them."""

    activations: FloatArray
    """[n_tokens] float32 >= 0."""

    masked: npt.NDArray[np.bool_]
    """[n_tokens] tokens that recording leaves out: special ones, and those at the start."""

    @property
    def maximum(self) -> float:
        """Largest activation of an unmasked token."""
        return float(self.activations[~self.masked].max(initial=0.0))


@dataclass(frozen=True)
class ActivationRequest:
    """How active is a unit on these texts? Answered by an `Activated` for each."""

    unit: UnitId
    texts: tuple[str, ...]

    def made_up(self) -> list[Activated]:
        """An answer of the right form."""
        values = np.linspace(0, 1, _MADE_UP_TOKENS, dtype=np.float32)
        masked = np.zeros(_MADE_UP_TOKENS, bool)
        return [Activated((" word",) * _MADE_UP_TOKENS, values, masked) for _ in self.texts]


@dataclass(frozen=True)
class InjectionRequest:
    """How active is a unit on windows into which tokens are put? An `Activated` for each window."""

    unit: UnitId
    windows: tuple[Window, ...]
    tokens: tuple[tuple[str, ...], ...]
    """Per window the tokens put in: each the text of one token of the subject's."""

    places: tuple[tuple[int, ...], ...]
    """Per window where in it they replace what stood there, from 0."""

    def made_up(self) -> list[Activated]:
        """An answer of the right form."""
        return ActivationRequest(self.unit, ("",) * len(self.windows)).made_up()


@dataclass(frozen=True)
class Generated:
    """Texts that a subject wrote."""

    texts: tuple[str, ...]
    """[n_prompts x n_samples], prompt by prompt, without the prompts."""

    strength: float
    """Multiple of the unit's largest activation that was added; 0 for plain texts."""

    kl: float
    """Mean KL(steered ‖ plain) of the token after the prompts, in nats."""

    reached: bool
    """Whether the KL that was asked for was met."""


@dataclass(frozen=True)
class GenerationRequest:
    """What does the subject write with a unit raised, or without? Answered by a `Generated`."""

    unit: UnitId
    prompts: tuple[str, ...]
    n_samples: int = 1
    """Texts for each prompt."""

    kl: float = 1.0
    """Strength: how far the predictions after the prompts move on average, in nats; 0 for plain
    texts."""

    max_new_tokens: int = 25
    temperature: float = 1.0
    top_p: float = 0.95
    seed: int = 0

    def made_up(self) -> Generated:
        """An answer of the right form."""
        texts = tuple(f" some words {i}" for i in range(len(self.prompts) * self.n_samples))
        return Generated(texts, float(self.kl > 0), self.kl, True)


@dataclass(frozen=True)
class Divergences:
    """What taking a unit's place did to the predictions, window by window."""

    mean_ablation: FloatArray
    """[n_windows] mean JS to the plain predictions over the tokens, with the unit at its mean."""

    replaced: tuple[FloatArray, ...]
    """Per replacement [n_windows] the same with the unit replaced by it."""


@dataclass(frozen=True, eq=False)
class AblationRequest:
    """How far do predictions move where a unit is replaced? Answered by `Divergences`."""

    unit: UnitId
    windows: tuple[Window, ...]
    mean: float
    """The unit's mean activation."""

    replacements: tuple[tuple[FloatArray, ...], ...]
    """Per replacement and window [n_tokens] activations."""

    def made_up(self) -> Divergences:
        """An answer of the right form."""
        half = np.full(len(self.windows), 0.5, np.float32)
        return Divergences(2 * half, tuple(half for _ in self.replacements))


@dataclass(frozen=True)
class TokenChangeRequest:
    """Which tokens' predictions does a unit change most? Answered by a `TokenChange`."""

    unit: UnitId
    prompts: tuple[str, ...]
    strength: float = 1.0
    """Multiple of the largest activation that the unit is clamped to."""

    n_tokens: int = 30

    def made_up(self) -> "TokenChange":
        """An answer of the right form."""
        words = tuple(f" word{i}" for i in range(self.n_tokens))
        return TokenChange(words, words)


@dataclass(frozen=True)
class TokenChange:
    """Tokens by the change of their logits."""

    promoted: Sequence[str]
    """Largest mean change first."""

    suppressed: Sequence[str]
    """Smallest mean change first."""


LIVE_REQUESTS: tuple[type, ...] = (
    ActivationRequest,
    InjectionRequest,
    GenerationRequest,
    AblationRequest,
    TokenChangeRequest,
)
"""All types that a live subject answers."""
