"""Answers that follow a JSON schema, token by token: small models do not keep to a form by asking.

Which tokens may come next is worked out by llguidance; what the schema forces (brackets, keys) need
not be asked of the model at all.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autointerp.records import AutointerpError

_STYLE: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as it is mostly written. With white space at will a weak model pads until it is cut off."""


_LARGEST = 999_999
"""Of integers to which the schema sets no bound: a weak model writes digits until it is cut off."""

_BOUNDS = {"enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}


def bounded(schema: Any) -> Any:
    """The schema with bounds on integers that have none."""
    if isinstance(schema, Mapping):
        parts = {key: bounded(value) for key, value in schema.items()}
        if parts.get("type") == "integer" and not _BOUNDS & set(parts):
            parts |= {"minimum": -_LARGEST, "maximum": _LARGEST}
        elif parts.get("type") == "integer" and 0 <= parts.get("minimum", -1) <= _LARGEST:
            parts.setdefault("maximum", _LARGEST)
        return parts
    return [bounded(part) for part in schema] if isinstance(schema, list) else schema


class Constraint:
    """Where one answer stands in its schema."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    @property
    def finished(self) -> bool:
        """Whether the answer is complete and nothing may follow."""
        return self._matcher.is_stopped()

    def allowed(self, n_vocab: int) -> Tensor:
        """[n_vocab] bool: the tokens that may come next, end marks where the answer may end.

        Raises:
            AutointerpError: where the schema turned out too complex to go on.
        """
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        bits = np.unpackbits(mask, bitorder="little")[:n_vocab].astype(bool)
        found = torch.zeros(n_vocab, dtype=torch.bool)
        found[: len(bits)] = torch.from_numpy(bits)
        return found

    def take(self, token: int) -> None:
        """Note that the answer goes on with an allowed `token`."""
        self._matcher.consume_token(token)
        self._check()

    def forced(self, room: int) -> list[int]:
        """Up to `room` tokens that must come next, taken already; often none."""
        tokens: list[int] = self._matcher.compute_ff_tokens()[:room]
        if tokens:
            self._matcher.consume_tokens(tokens)
            self._check()
        return tokens

    def _check(self) -> None:
        if self._matcher.is_error():
            problem = str(self._matcher.get_error()).splitlines()[0]
            raise AutointerpError(f"the answer's schema cannot be followed: {problem}")


class Grammars:
    """The schemas that one model's answers follow, each compiled once."""

    def __init__(self, tokenizer: Any, n_vocab: int, ends: set[int]) -> None:
        """Prepare for a tokenizer; nothing is built before the first schema.

        Args:
            tokenizer: of transformers.
            n_vocab: number of logits: models pad their vocabulary.
            ends: ids that end an answer.
        """
        self._tokenizer = tokenizer
        self._n_vocab = n_vocab
        self._ends = sorted(ends)
        self._built: Any = None
        self._matchers: dict[str, Any] = {}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self.available = bool(self._ends) and backend is not None
        """Whether schemas can be followed: the vocabulary of slow tokenizers is not known."""

    def start(self, schema: Mapping[str, Any]) -> Constraint:
        """Begin an answer that follows `schema`.

        Raises:
            AutointerpError: where the schema is wrong, or uses what cannot be enforced.
        """
        from llguidance import LLMatcher  # late: few runs need it

        text = json.dumps(bounded(schema))
        if text not in self._matchers:
            grammar = LLMatcher.grammar_from_json_schema(text, defaults=_STYLE)
            vocabulary = self._vocabulary()
            wrong, problems = LLMatcher.validate_grammar_with_warnings(grammar, vocabulary)
            if wrong:
                raise AutointerpError(f"the answer's schema cannot be enforced: {problems[0]}")
            self._matchers[text] = LLMatcher(vocabulary, grammar, log_level=0)
        return Constraint(self._matchers[text].deep_copy())

    def _vocabulary(self) -> Any:
        if self._built is None:
            from llguidance.hf import from_tokenizer

            size = max(self._n_vocab, len(self._tokenizer))
            self._built = from_tokenizer(self._tokenizer, size, self._ends)
        return self._built
