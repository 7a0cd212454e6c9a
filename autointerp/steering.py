"""Steering: what the subject writes when a unit is held up, held down or taken out.

For every prompt the plain continuation and, for a sweep of strengths, the steered ones with the
same random numbers; and what the intervention does to the logits after the prompt, where nothing
has been written yet.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from autointerp.config import RunConfig, load_config
from autointerp.records import AutointerpError, UnitId, UsageError, refuse_text

if TYPE_CHECKING:
    from torch import Tensor

    from autointerp.subject import Sampling, Subject
    from autointerp.units import Intervention, UnitSource

SteerHow = Literal["clamp", "add", "scale", "ablate"]
"""`clamp` to and `add` multiples of the largest activation; `scale` by a factor; `ablate` to 0."""

DEFAULT_PROMPTS = ("I think that",)
DEFAULT_STRENGTHS = (1.0, 3.0)


@dataclass(frozen=True)
class LogitChange:
    """A token and how much an intervention raises its logit after a prompt."""

    token: str
    token_id: int
    change: float
    """Steered less plain logit."""

    probability: float
    """Of the token when steered."""


@dataclass(frozen=True)
class SteeredText:
    """One continuation."""

    prompt: str
    strength: float | None
    """`None` for the plain continuation."""

    text: str
    kl: float
    """KL(steered ‖ plain) of the token after the prompt, in nats."""

    promoted: tuple[LogitChange, ...]
    """Largest change first; empty for the plain continuation."""

    suppressed: tuple[LogitChange, ...]
    """Smallest change first."""


@dataclass(frozen=True)
class Steering:
    """A sweep of strengths over prompts, for one unit."""

    unit: UnitId
    how: str
    hook_point: str
    """Where is written."""

    maximum: float | None
    """Largest activation in `explain`, which strengths are multiples of; `None` where unneeded."""

    strengths: tuple[float, ...]
    texts: tuple[SteeredText, ...]
    """Prompt by prompt, the plain continuation first."""

    def as_json(self) -> dict[str, Any]:
        """What JSON knows."""
        return {**asdict(self), "unit": str(self.unit)}


@dataclass(frozen=True)
class SteeredUnit:
    """A unit that can be steered: everything loaded."""

    unit: UnitId
    source: "UnitSource"
    subject: "Subject"
    maximum: float
    """Largest activation in `explain`; 0 where it is not known."""


def load_unit(run: str | Path, unit: str | UnitId, maximum: float | None = None) -> SteeredUnit:
    """A unit of a run with its source and subject, ready to be steered.

    Args:
        run: folder of a run, or a config.
        unit: a `UnitId`, or `source/index`, `source/index-`.
        maximum: activation that strengths are multiples of; the recorded one if left out.

    Raises:
        AutointerpError: where there is no such run or unit.
    """
    from autointerp.parts import Parts
    from autointerp.runner import run_folder
    from autointerp.store import RunStore

    place = Path(run)
    is_config = place.suffix in (".yaml", ".yml")
    path = place if is_config else place / "config.yaml"
    if not path.exists():
        raise UsageError(
            f"{str(place)!r} holds no run: there is no config.yaml in it; give the folder of a run "
            "(results/NAME) or a config"
        )
    config = load_config(path, RunConfig)
    if not is_config:
        config = config.without_remote_code()
    chosen = UnitId.parse(unit)
    if chosen.source not in config.sources:
        raise UsageError(f"unit {chosen}: there is no source but {', '.join(config.sources)}")
    store = RunStore(run_folder(config) if is_config else place)
    try:
        if maximum is None:
            maximum = _recorded_maximum(store, chosen)
        source, subject = _one_source(Parts(config, store), chosen.source)
    finally:
        store.close()
    return SteeredUnit(chosen, source, subject, maximum)


def _recorded_maximum(store: Any, unit: UnitId) -> float:
    if store.records_key(unit.source) is None:
        return 0.0
    found = next((one for one in store.units(unit.source) if one.unit == unit), None)
    if found is None:
        n = len(store.units(unit.source))
        raise UsageError(f"unit {unit} does not exist: {unit.source} has {n} recorded units")
    return float(found.maximum)


def _one_source(parts: Any, name: str) -> tuple["UnitSource", "Subject"]:
    """One source alone: the others need not be loaded."""
    from autointerp.progress import Silent
    from autointerp.sources import make_source

    source = make_source(name, parts.config, parts.subject, parts.store, Silent())
    if source is None:
        raise UsageError(
            f"source {name!r} was recorded elsewhere and has no subject here: steering needs a "
            "source with a subject"
        )
    return source, parts.subject(source.subject)


def steer(
    what: SteeredUnit,
    prompts: Sequence[str] = DEFAULT_PROMPTS,
    strengths: Sequence[float] = DEFAULT_STRENGTHS,
    *,
    how: SteerHow = "clamp",
    positions: Literal["all", "prompt", "new", "last"] = "all",
    kl: float | None = None,
    sampling: "Sampling | None" = None,
    n_tokens: int = 5,
) -> Steering:
    """Continue prompts with a unit intervened on, at several strengths, beside the plain text.

    Args:
        what: see `load_unit`.
        prompts: texts to be continued.
        strengths: multiples of the unit's largest activation (`clamp`, `add`), or factors
            (`scale`); not read by `ablate`.
        how: what is done to the unit.
        positions: tokens that are touched.
        kl: instead of `strengths`, the one that moves the predictions after the prompts so far:
            mean KL in nats (`units.strength`).
        sampling: how tokens are chosen; plain and steered texts share their random numbers.
        n_tokens: tokens named at each end of the logit changes.

    Raises:
        AutointerpError: where `how`, a prompt or a strength cannot be used, or strengths are
            multiples of a maximum that is not known.
    """
    import torch

    from autointerp.subject import Sampling
    from autointerp.subject.generation import text_ids

    _check(what, prompts, strengths, how)
    subject, sampling = what.subject, sampling or Sampling()
    ids = [text_ids(subject, prompt) for prompt in prompts]
    edit = _edit(what, how, positions)
    if how == "ablate":
        strengths = (0.0,)
    elif kl is not None:
        strengths = (_matched(subject, edit, ids, kl),)
    plain_logits = subject.next_logits(ids)
    plain = subject.generate(ids, sampling, samples=[0] * len(ids))
    rows = [(prompt, strength) for prompt in range(len(ids)) for strength in strengths]
    every = [ids[prompt] for prompt, _ in rows]
    with subject.intervene(edit.by(torch.tensor([strength for _, strength in rows]))):
        logits = subject.next_logits(every)
        texts = subject.generate(every, sampling, samples=[0] * len(every))
    found: list[SteeredText] = []
    for number, prompt in enumerate(prompts):
        found.append(SteeredText(prompt, None, plain[number].text, 0.0, (), ()))
        for place, (owner, strength) in enumerate(rows):
            if owner == number:
                up, down, divergence = _changes(
                    subject, logits[place], plain_logits[number], n_tokens
                )
                found.append(SteeredText(prompt, strength, texts[place].text, divergence, up, down))
    maximum = what.maximum if how in ("clamp", "add") else None
    return Steering(what.unit, how, edit.write_at, maximum, tuple(strengths), tuple(found))


def check_how(how: str) -> None:
    """Refuse a way of steering that is none."""
    if how not in get_args(SteerHow):
        raise UsageError(f"how={how!r} is not one of {', '.join(get_args(SteerHow))}")


def _check(
    what: SteeredUnit, prompts: Sequence[str], strengths: Sequence[float], how: SteerHow
) -> None:
    check_how(how)
    refuse_text(prompts, "prompts as a list of texts")
    refuse_text(strengths, "strengths as a list of numbers")
    if not prompts:
        raise UsageError("there is no prompt: give at least one text")
    if not all(prompts):
        raise UsageError("a prompt is empty: give at least one word, such as --prompt 'I think'")
    for strength in strengths:
        if not isinstance(strength, Real) or not math.isfinite(strength):
            raise UsageError(f"a strength must be a finite number, not {strength!r:.80}")
    if how in ("clamp", "add") and not 0 < what.maximum < math.inf:
        raise UsageError(
            f"the largest activation of {what.unit}, which strengths are multiples of, is not "
            "known, or it never fired in the explain split: record the run first (autointerp "
            "record CONFIG), give it with --maximum, or use --how scale or ablate"
        )


def _edit(what: SteeredUnit, how: SteerHow, positions: Any) -> "Intervention":
    from autointerp.units import Intervention

    if how == "ablate":
        return Intervention.scale(what.source, what.unit, 0.0, positions)
    if how == "scale":
        return Intervention.scale(what.source, what.unit, 1.0, positions)
    make = Intervention.clamp if how == "clamp" else Intervention.add
    return make(what.source, what.unit, 1.0, what.maximum, positions)


def _matched(
    subject: "Subject", edit: "Intervention", ids: Sequence[Sequence[int]], kl: float
) -> float:
    from autointerp.units.strength import strength_for_kl

    found = strength_for_kl(subject, edit.by, ids, kl)
    if not found.reached:
        raise AutointerpError(
            f"a KL of {kl:g} is not reached: at strength {found.strength:g} it is {found.kl:.3g}; "
            "give a smaller --kl"
        )
    return found.strength


def _changes(
    subject: "Subject", steered: "Tensor", plain: "Tensor", n: int
) -> tuple[tuple[LogitChange, ...], tuple[LogitChange, ...], float]:
    """Tokens whose logits rise and fall most, and the KL of the distributions."""
    from autointerp.units.strength import mean_kl

    # What lies beyond the tokenizer's tokens is padding of the unembedding.
    n_known = min(len(steered), len(subject.tokenizer))
    change, probability = (steered - plain)[:n_known], steered.softmax(0)

    def named(ids: list[int]) -> tuple[LogitChange, ...]:
        return tuple(
            LogitChange(
                str(subject.tokenizer.decode([i])), i, float(change[i]), float(probability[i])
            )
            for i in ids
        )

    up = named(change.topk(min(n, n_known)).indices.tolist())
    down = named(change.topk(min(n, n_known), largest=False).indices.tolist())
    return up, down, mean_kl(steered[None], plain[None])
