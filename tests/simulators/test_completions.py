"""All-at-once simulation through the log-probabilities of a prompt that a server reads."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm import Capabilities, Request, Response, ResponseStatus, TokenLogprobs
from autointerp.llm.local import LocalClient
from autointerp.records import AutointerpError, Simulation, UsageError
from autointerp.simulators.completions import Completions, laid_over
from autointerp.subject import load_subject
from tests.simulators.asking import HOSTILE, Model, peaked

TEXTS = (("The", " cat", " sat", " on", " a", " dog"), (" no", " animals"), (), ("cat",))


class Server(Model):
    """Cuts prompts as it likes, and puts level n at the n-th placeholder of the text."""

    def __init__(self, cut, level=lambda place: place % 10) -> None:
        super().__init__(self._echo)
        self.cut, self.level = cut, level
        self.slots: dict[str, list[int]] = {}

    def _echo(self, request: Request) -> Response:
        assert request.echo
        (message,) = request.messages
        slots = self.slots[message.content]
        found = []
        for piece, place in self.cut(message.content):
            top = peaked(self.level(slots.index(place))) if place in slots else ((piece, -1.0),)
            found.append(TokenLogprobs(piece, -1.0, top))
        return Response("", ResponseStatus.OK, logprobs=tuple(found[1:]))


def simulated(server: Server, texts) -> list[Simulation]:
    simulator = Completions(server)
    server.slots = dict(simulator.text("animals", text) for text in texts)
    return simulator.simulate("animals", texts)


def cut_by(pattern: str):
    def cut(text: str) -> list[tuple[str, int]]:
        return [(m[0], m.start()) for m in re.finditer(pattern, text, re.DOTALL)]

    return cut


words = cut_by(r"unknown|\t|\n|[^\S\t\n]+|\w+|[^\w\s]")
characters = cut_by(r".")


@pytest.mark.parametrize("cut", [words, characters])
def test_levels_are_read_at_their_placeholders_however_the_server_cuts(cut):
    found = simulated(Server(cut), TEXTS)
    for tokens, simulation in zip(TEXTS, found, strict=True):
        assert simulation.known.tolist() == [True] * len(tokens)
        assert simulation.expected == pytest.approx(np.arange(len(tokens)), abs=0.9)


def test_no_token_of_a_text_shifts_a_level():
    (simulation,) = simulated(Server(characters), [HOSTILE])
    assert simulation.known.all()
    assert simulation.expected == pytest.approx(np.arange(len(HOSTILE)) % 10, abs=0.9)


def test_a_placeholder_in_the_text_itself_is_not_read():
    """The place is known from how the prompt was built: no text is searched for."""
    tokens = ["a", "\tunknown", "unknown", "\n", "b"]
    text, slots = Completions(Server(characters)).text("x", tokens)
    assert [text[slot - 1 : slot + 8] for slot in slots] == ["\tunknown\n"] * 5
    assert len(re.findall(r"\tunknown", text[slots[0] - 3 :])) == 6


def test_where_a_server_joins_mark_and_placeholder_the_token_is_missing():
    joined = cut_by(r"cat\tunknown|unknown|\t|\n|[^\S\t\n]+|\w+|[^\w\s]")
    (simulation,) = simulated(Server(joined, lambda _: 3), [("a", "cat", "b")])
    assert simulation.known.tolist() == [True, False, True]


def in_pieces(text: str) -> list[tuple[str, int | None]]:
    """Characters outside ASCII as their bytes, each shown as U+FFFD, as servers do."""
    return [
        (piece, place)
        for place, c in enumerate(text)
        for piece in ([c] if c.isascii() else ["\ufffd"] * len(c.encode()))
    ]


def test_characters_cut_into_bytes_shift_nothing():
    tokens = ["動物", " the", "🦊🦊", "\ufffd", "é", " end"]
    (simulation,) = simulated(Server(in_pieces), [tokens])
    assert simulation.known.all()
    assert simulation.expected == pytest.approx(np.arange(6), abs=0.9)


@given(st.text(min_size=1, max_size=40), st.integers(0, 3))
def test_tokens_are_laid_where_they_are_or_nowhere(text, start):
    pieces = in_pieces(text)[start:]
    found = laid_over(text, [TokenLogprobs(piece, -1.0, ()) for piece, _ in pieces])
    whole = {place: piece for piece, place in pieces if piece != "\ufffd"}
    assert {place: token.token for place, token in found.items()}.items() <= whole.items()
    if text.isascii():
        assert len(found) == len(pieces)


def test_a_server_whose_tokens_are_not_the_prompt_gives_nothing():
    class Liar(Server):
        def _echo(self, request: Request) -> Response:
            found = super()._echo(request)
            return Response("", ResponseStatus.OK, logprobs=(*found.logprobs, *found.logprobs[-1:]))

    (simulation,) = simulated(Liar(words), [("a", "b")])
    assert not simulation.known.any()


def test_no_answer_is_missing_never_zero():
    failed = Model(lambda _: Response(None, ResponseStatus.FAILED, reason="down"))
    found = Completions(failed).simulate("x", TEXTS)
    assert [simulation.known.any() for simulation in found] == [False] * 4


def test_a_model_without_prompt_logprobs_is_refused():
    with pytest.raises(UsageError, match=r"prompt"):
        Completions(Model(lambda _: None, Capabilities(logprobs=20)))


def test_a_prompt_of_branches_is_refused():
    with pytest.raises(AutointerpError, match="simulate_tab_unknown"):
        Completions(Server(words), prompt="simulate_text_first")


@pytest.mark.parametrize("prompt", ["simulate_tab_unknown", "simulate_text_inline"])
def test_on_a_local_model_it_is_what_one_forward_pass_says(tiny_folder: Path, prompt):
    subject = load_subject(str(tiny_folder), device="cpu", dtype="float32")
    simulator = Completions(LocalClient(subject), prompt=prompt, mass_floor=0.0)
    tokens = ("The", " cat", " sat", "\n", " 動")
    (simulation,) = simulator.simulate("animals", [tokens])
    text, slots = simulator.text("animals", tokens)
    encoded = subject.tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    starts = [start for start, _ in encoded["offset_mapping"]]
    with torch.inference_mode():
        logits = subject.model(torch.tensor([encoded["input_ids"]])).logits[0].float()
    for place, slot in enumerate(slots):
        logprobs = logits[starts.index(slot) - 1].log_softmax(-1)
        best = logprobs.topk(20)
        pairs = [
            (int(word), p.exp().item())
            for i, p in zip(best.indices, best.values, strict=True)
            if (word := subject.tokenizer.decode([int(i)]).strip()) in "0123456789" and word
        ]
        mass = sum(p for _, p in pairs)
        assert simulation.level_mass[place] == pytest.approx(mass, abs=1e-5)
        if mass:
            expected = sum(level * p for level, p in pairs) / mass
            assert simulation.expected[place] == pytest.approx(expected, abs=1e-3)


def test_mass_is_what_lies_on_levels_among_the_alternatives():
    (simulation,) = simulated(Server(words, lambda _: 4), [("a",)])
    assert simulation.level_mass[0] == pytest.approx(0.9 + 9 * 0.01, abs=1e-6)
    assert simulation.expected[0] == pytest.approx((4 * 0.9 + 0.01 * 41) / 0.99, abs=1e-4)
