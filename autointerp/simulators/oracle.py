"""Simulators whose skill is known: they test the statistics, and the tests, without a model."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from autointerp.records import AutointerpError, Simulation, content_key, derived_seed
from autointerp.simulators.base import Simulator, within
from autointerp.simulators.token_lookup import certain

Rule = Callable[[Sequence[str]], np.ndarray]
"""Token texts [n_tokens] → activations [n_tokens]."""


class Oracle(Simulator):
    """Predicts the truth: it knows what each explanation means."""

    name = "oracle"
    n_levels = 11

    def __init__(self, rules: Mapping[str, Rule]):
        """Take the meaning of every explanation.

        Args:
            rules: explanation → the function of token texts that it describes.
        """
        self._rules = dict(rules)
        self.fingerprint = content_key(
            "simulator",
            name=self.name,
            rules={
                text: f"{getattr(rule, '__module__', '')}.{getattr(rule, '__qualname__', rule)}"
                for text, rule in self._rules.items()
            },
        )

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Apply the explanation's rule; always known, level mass 1. See `Simulator`.

        Raises:
            AutointerpError: where the oracle was not told what the explanation means, or the rule
                does not give one level per token.
        """
        rule = self._rules.get(explanation)
        if rule is None:
            raise AutointerpError(
                f"the oracle knows {len(self._rules)} explanations, and {explanation!r} is not "
                "among them; pass its rule in `rules`"
            )
        found = [certain(rule(tokens)) for tokens in sequences]
        for tokens, simulation in zip(sequences, found, strict=True):
            if simulation.expected.shape != (len(tokens),):
                raise AutointerpError(
                    f"the rule of {explanation!r:.80} gave levels of shape "
                    f"{list(simulation.expected.shape)} for a text of {len(tokens)} tokens: let it "
                    "give one level per token"
                )
        return found


class NoisyOracle(Simulator):
    """Predicts the truth plus white noise: s = t + e, sd(e) = sd(t) / snr.

    Against t its correlation is snr / sqrt(1 + snr²) in expectation. sd(t) is taken over all
    tokens of one call's sequences; where the truth is constant, sd(e) = 1 / snr.
    """

    name = "noisy_oracle"
    n_levels = 11

    def __init__(self, oracle: Oracle, snr: float, seed: int = 0):
        """Add noise to an oracle.

        Args:
            oracle: what knows the truth.
            snr: ratio of standard deviations, signal to noise; positive.
            seed: of the noise, which also depends on the explanation and on the sequence.
        """
        if not snr > 0:
            raise AutointerpError(f"snr must be positive, not {snr}; for no noise use the oracle")
        self._oracle = oracle
        self._snr = snr
        self._seed = seed
        self.fingerprint = content_key(
            "simulator", name=self.name, oracle=oracle.fingerprint, snr=snr, seed=seed
        )

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Apply the explanation's rule and add noise. See `Simulator`."""
        truths = self._oracle.simulate(explanation, sequences)
        if not truths:
            return []
        spread = float(np.concatenate([truth.expected for truth in truths]).std())
        scale = (spread or 1.0) / self._snr
        noisy: list[Simulation] = []
        for place, truth in enumerate(truths):
            generator = np.random.default_rng(derived_seed(self._seed, explanation, place))
            noisy.append(certain(truth.expected + generator.normal(0, scale, truth.expected.shape)))
        return noisy


class Inverted(Simulator):
    """Predicts top − t where the oracle predicts t: the correlation changes its sign exactly."""

    name = "inverted"
    n_levels = 11

    def __init__(self, oracle: Oracle):
        """Turn an oracle upside down."""
        self._oracle = oracle
        self.fingerprint = content_key("simulator", name=self.name, oracle=oracle.fingerprint)

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Apply the explanation's rule and invert it. See `Simulator`."""
        truths = self._oracle.simulate(explanation, sequences)
        return [certain(self.n_levels - 1 - truth.expected) for truth in truths]


class Constant(Simulator):
    """Predicts the same level everywhere, whatever it is told."""

    name = "constant"
    n_levels = 11

    def __init__(self, level: float = 0.0):
        """Predict `level`, from 0 to 10, at every token."""
        self._level = within(level, "level", 0, self.n_levels - 1)
        self.fingerprint = content_key("simulator", name=self.name, level=level)

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Fill every sequence with the level. See `Simulator`."""
        return [certain(np.full(len(tokens), self._level)) for tokens in sequences]
