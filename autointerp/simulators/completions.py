"""All-at-once simulation on a server that gives the log-probabilities of prompts.

The whole sequence stands in the prompt with a placeholder for every level, and the alternatives to
the placeholder's first token are the prediction (Bills et al. 2023, "Simulating"). The server cuts
the prompt into tokens as it likes and says how: its tokens are laid over the text from the end, and
a placeholder whose first token does not begin exactly where it should is missing, never guessed.

Servers differ in whether these log-probabilities are right: they are used after a self-check
(`llm.echo`).
"""

from collections.abc import Sequence
from itertools import groupby

from autointerp.llm import LlmClient, Message, Request, Response
from autointerp.llm.base import TokenLogprobs
from autointerp.llm.capabilities import Needs
from autointerp.records import AutointerpError, Simulation, content_key
from autointerp.simulators.asked import AskedSimulator, Readings, Steps, level_distribution, missing
from autointerp.simulators.base import within
from autointerp.simulators.generated import MIN_LOGPROBS, checked_top
from autointerp.simulators.prompt import SimulationPrompt, load_prompt

DEFAULT_PROMPT = "simulate_tab_unknown"

_VERSION = 1
"""Raise when the same answers give other predictions, or the same texts other questions."""

_N_LEVELS = 10

_BROKEN = "\ufffd"
"""Shown for a part of a character."""


class Completions(AskedSimulator):
    """Predicts levels 0 to 9, one digit so that every tokenizer has it as one token."""

    name = "completions"
    n_levels = _N_LEVELS
    needs = Needs(logprobs=MIN_LOGPROBS, prompt_logprobs=True)

    def __init__(
        self,
        client: LlmClient,
        *,
        prompt: str = DEFAULT_PROMPT,
        mass_floor: float = 0.01,
        top_logprobs: int = 20,
    ) -> None:
        """Prepare a simulator.

        Args:
            client: a language model with prompt log-probabilities.
            prompt: name of a simulation template in `prompts/` with placeholders, or path of a
                `.j2` file.
            mass_floor: below this probability on levels a token's prediction is not `known`.
            top_logprobs: alternatives read at every token; fewer where the model gives fewer.

        Raises:
            UsageError: where the model has no prompt log-probabilities.
            AutointerpError: where the prompt has no placeholders, or a setting cannot be used.
        """
        super().__init__(client)
        self.mass_floor = within(mass_floor, "mass_floor", 0, 1)
        self.top_logprobs = checked_top(top_logprobs, client)
        self.prompt = load_prompt(prompt)
        if self.prompt.branches or not self.prompt.unknown:
            raise AutointerpError(
                f"prompt {prompt!r} has no placeholders for levels, and one text is all that a "
                "server reads: take simulate_tab_unknown or simulate_text_inline"
            )
        self._few_shot = few_shot(self.prompt)
        self.fingerprint = content_key(
            "simulator",
            name=self.name,
            version=_VERSION,
            llm=client.fingerprint,
            prompt=self.prompt.digest,
            mass_floor=mass_floor,
            top_logprobs=self.top_logprobs,
        )

    def steps(self, explanation: str, sequences: Sequence[Sequence[str]]) -> Steps:
        """See `AskedSimulator`."""
        filled = [place for place, tokens in enumerate(sequences) if len(tokens)]
        texts = [self.text(explanation, sequences[place]) for place in filled]
        answers = yield [self._request(text) for text, _ in texts]
        found = [missing(len(tokens)) for tokens in sequences]
        for place, (text, slots), answer in zip(filled, texts, answers, strict=True):
            found[place] = read_slots(text, slots, answer, self.mass_floor)
        return found

    def typical_answer(self, request: Request, otherwise: str) -> str:
        """See `AskedSimulator`: one token is generated, and not used."""
        return ""

    def text(self, explanation: str, tokens: Sequence[str]) -> tuple[str, list[int]]:
        """The whole prompt about one text, and at which character every placeholder begins."""
        head, rest = self.prompt.start(explanation, "".join(tokens))
        start = self._few_shot + head + rest
        items, slots = _items(self.prompt, tokens, [None] * len(tokens))
        return start + items, [len(start) + slot for slot in slots]

    def _request(self, text: str) -> Request:
        return Request(
            (Message("user", text),),
            max_tokens=1,
            purpose="simulate",
            top_logprobs=self.top_logprobs,
            echo=True,
        )


def few_shot(prompt: SimulationPrompt) -> str:
    """The opening and the worked examples, as one text."""
    text = prompt.opening(_N_LEVELS - 1)
    for example in prompt.examples:
        text += "".join(prompt.start(example.explanation, example.text))
        shown = [None] * example.hidden + list(example.levels[example.hidden :])
        text += _items(prompt, example.tokens, shown)[0] + prompt.closing
    return text


def _items(
    prompt: SimulationPrompt, tokens: Sequence[str], levels: Sequence[int | None]
) -> tuple[str, list[int]]:
    """Tokens with their levels or placeholders, and where each of these begins."""
    text = ""
    slots: list[int] = []
    for token, level in zip(tokens, levels, strict=True):
        text += prompt.token(token) + prompt.mark
        slots.append(len(text))
        text += prompt.unknown if level is None else str(min(level, _N_LEVELS - 1))
        text += prompt.separator
    return text, slots


def read_slots(text: str, slots: Sequence[int], answer: Response, mass_floor: float) -> Simulation:
    """The simulation in the log-probabilities of a prompt.

    Args:
        text: the prompt.
        slots: [n_tokens] the character at which each placeholder begins.
        answer: the response to the request with `echo`.
        mass_floor: as in `Completions`.
    """
    readings = Readings(len(slots))
    if answer.status == "ok" and answer.logprobs:
        starts = laid_over(text, answer.logprobs)
        for place, slot in enumerate(slots):
            if slot in starts:
                readings.set(place, *level_distribution(starts[slot].top, _N_LEVELS))
    return readings.simulation(mass_floor)


def laid_over(text: str, tokens: Sequence[TokenLogprobs]) -> dict[int, TokenLogprobs]:
    """Where in the text every token begins, as far as that is certain.

    From the end, since the first token is not given and a server may put a mark before it. Parts
    of characters are shown as U+FFFD, so their lengths are not known: what stands before them is
    found again by its own text, and where that fits in two places, nothing before is certain.

    Args:
        text: a prompt.
        tokens: its last tokens, in order.

    Returns:
        Character → the token that begins there.
    """
    found: dict[int, TokenLogprobs] = {}
    ends = [len(text)]
    runs = [
        (broken, list(run)) for broken, run in groupby(tokens, lambda token: _BROKEN in token.token)
    ]
    for broken, run in reversed(runs):
        if broken:
            # Each U+FFFD stands for a character or for a part of one; the rest stands for itself.
            (end,) = ends
            shown = "".join(token.token for token in run)
            least, most = len(shown.replace(_BROKEN, "")), len(shown)
            ends = [end - n for n in range(least, most + 1) if n <= end]
            continue
        joined = "".join(token.token for token in run)
        fitting = [end for end in ends if text[:end].endswith(joined)]
        if len(fitting) != 1:
            return found
        place = fitting[0]
        for token in reversed(run):
            place -= len(token.token)
            found[place] = token
        ends = [place]
    return found
