"""Simulators: predict a unit's activations from an explanation of it."""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from autointerp.records import AutointerpError
from autointerp.simulators.base import SimulationRequest, Simulator
from autointerp.simulators.n2g import N2G
from autointerp.simulators.oracle import Constant, Inverted, NoisyOracle, Oracle, Rule
from autointerp.simulators.token_lookup import TokenLookup

if TYPE_CHECKING:
    from autointerp.llm import LlmClient

__all__ = [
    "N2G",
    "Constant",
    "Inverted",
    "NoisyOracle",
    "Oracle",
    "SimulationRequest",
    "Simulator",
    "TokenLookup",
    "load_simulator",
]


def load_simulator(name: str, **options: Any) -> Simulator:
    """Make a simulator by name.

    | name | options |
    |---|---|
    | `embedded` | none: the trained simulator that ships; or `model` (a folder), `device`, `dtype`, `mass_floor`, `batch_tokens` |
    | `all_at_once` | `model` (as for `load_subject`; default `smollm2`) and `device`, `dtype`, or a loaded `subject`; `prompt`, `mass_floor`, `levels`, `batch_tokens`, `memory_gb`, `keep_few_shot` |
    | `structured` | `client`; `prompt`, `sequences_per_call` |
    | `generated`, `one_at_a_time`, `completions` | `client`; `prompt`, `mass_floor`, `top_logprobs` |
    | `trained_head` | `model` (a folder); `device`, `dtype`, `batch_tokens` |
    | `token_lookup`, `n2g` | none |
    | `oracle` | `rules` |
    | `noisy_oracle` | `rules` or `oracle`; `snr`, `seed` |
    | `inverted` | `rules` or `oracle` |
    | `constant` | `level` |

    Raises:
        AutointerpError: for an unknown name or option, or where the model cannot be loaded.
    """  # noqa: E501
    makers: dict[str, Callable[..., Simulator]] = {
        "embedded": _embedded,
        "all_at_once": _all_at_once,
        "structured": _structured,
        "generated": _generated,
        "one_at_a_time": _one_at_a_time,
        "completions": _completions,
        "trained_head": _trained_head,
        "token_lookup": TokenLookup,
        "n2g": N2G,
        "oracle": Oracle,
        "noisy_oracle": _noisy_oracle,
        "inverted": _inverted,
        "constant": Constant,
    }
    if name not in makers:
        raise AutointerpError(
            f"there is no simulator called {name!r}; known are {', '.join(sorted(makers))}"
        )
    maker = makers[name]
    try:
        inspect.signature(maker).bind(**options)
    except TypeError as error:
        raise AutointerpError(f"simulator {name!r}: {error}") from error
    return maker(**options)


def _embedded(
    *,
    model: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    mass_floor: float | None = None,
    batch_tokens: int | None = None,
) -> Simulator:
    from autointerp.simulators import embedded  # late: it imports torch

    return embedded.load_embedded(
        model,
        device=device,
        dtype=dtype,
        mass_floor=embedded.DEFAULT_MASS_FLOOR if mass_floor is None else mass_floor,
        batch_tokens=batch_tokens,
    )


def _all_at_once(
    *,
    model: str = "smollm2",
    subject: Any = None,
    device: str = "auto",
    dtype: str = "auto",
    prompt: str | None = None,
    mass_floor: float = 0.01,
    levels: str = "auto",
    batch_tokens: int | None = None,
    memory_gb: float | None = None,
    keep_few_shot: bool = True,
) -> Simulator:
    from autointerp.simulators import all_at_once  # late: it imports torch
    from autointerp.subject import load_subject
    from autointerp.subject.embedded import cache_folder

    return all_at_once.AllAtOnce(
        subject or load_subject(model, device=device, dtype=dtype),
        prompt=prompt or all_at_once.DEFAULT_PROMPT,
        mass_floor=mass_floor,
        levels=levels,
        batch_tokens=batch_tokens,
        memory_gb=memory_gb,
        cache=cache_folder() / "few_shot" if keep_few_shot else None,
    )


def _structured(
    *, client: "LlmClient", prompt: str | None = None, sequences_per_call: int = 4
) -> Simulator:
    from autointerp.simulators import structured

    chosen = prompt or structured.DEFAULT_PROMPT
    return structured.Structured(client, prompt=chosen, sequences_per_call=sequences_per_call)


def _generated(
    *,
    client: "LlmClient",
    prompt: str | None = None,
    mass_floor: float = 0.01,
    top_logprobs: int = 20,
) -> Simulator:
    from autointerp.simulators import generated

    return generated.Generated(
        client,
        prompt=prompt or generated.DEFAULT_PROMPT,
        mass_floor=mass_floor,
        top_logprobs=top_logprobs,
    )


def _one_at_a_time(
    *,
    client: "LlmClient",
    prompt: str | None = None,
    mass_floor: float = 0.01,
    top_logprobs: int = 20,
) -> Simulator:
    from autointerp.simulators import one_at_a_time

    chosen = prompt or one_at_a_time.DEFAULT_PROMPT
    return one_at_a_time.OneAtATime(
        client, prompt=chosen, mass_floor=mass_floor, top_logprobs=top_logprobs
    )


def _completions(
    *,
    client: "LlmClient",
    prompt: str | None = None,
    mass_floor: float = 0.01,
    top_logprobs: int = 20,
) -> Simulator:
    from autointerp.simulators import completions

    return completions.Completions(
        client,
        prompt=prompt or completions.DEFAULT_PROMPT,
        mass_floor=mass_floor,
        top_logprobs=top_logprobs,
    )


def _trained_head(
    *, model: str, device: str = "auto", dtype: str = "auto", batch_tokens: int | None = None
) -> Simulator:
    from autointerp.simulators.trained_head import TrainedHead, load_trained  # late: torch

    return TrainedHead(load_trained(model, device=device, dtype=dtype), batch_tokens=batch_tokens)


def _noisy_oracle(
    *,
    rules: Mapping[str, Rule] | None = None,
    oracle: Oracle | None = None,
    snr: float,
    seed: int = 0,
) -> Simulator:
    return NoisyOracle(oracle or Oracle(rules or {}), snr, seed)


def _inverted(
    *, rules: Mapping[str, Rule] | None = None, oracle: Oracle | None = None
) -> Simulator:
    return Inverted(oracle or Oracle(rules or {}))
