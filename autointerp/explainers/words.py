"""From an answer to an explanation, or to the reason why it is none; and how tokens are written."""

import re

MAX_WORDS = 40
"""A longer explanation is no short phrase."""

_LONGEST_WORD = 120
"""Characters without white space; some scripts write whole phrases so."""

_LEAD_INS = (
    r"(?:sure|certainly|of course|okay|ok)\b[,.!:]*",
    r"here(?:'s| is) (?:a|the|my) [\w -]{0,40}:",
    r"(?:the |a |my )?(?:short |best )?"
    r"(?:explanation|answer|description|summary|phrase)(?: (?:of|for) [\w -]{0,40}?)?"
    r"(?: is(?: that)?|\s*[:\-–])(?=\s|$)",
    r"(?:i think |it (?:seems|appears|looks like) )(?:that )?",
    r"(?:the main thing )?(?:the|this) (?:unit|neuron|feature|latent)(?: \d+)?(?:'s activations?)?"
    r"(?: (?:seems|appears) to)?"
    r" (?:does is (?:to )?(?:find|look for)|"
    r"(?:mainly |mostly |primarily |strongly |only )?"
    r"(?:fires?|responds?|activates?|reacts?|looks?|detects?|finds?|recogni[sz]es?|represents?)"
    r"(?: (?:most|more))?(?: (?:mainly|mostly|primarily|strongly|only|highly))?"
    r"(?: (?:on|to|for|when it (?:sees|finds|reads)|in response to))?)\b:?",
)
_LEAD_IN = re.compile(rf"^(?:{'|'.join(_LEAD_INS)})\s*", re.IGNORECASE)

_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am)(?: very| so)? sorry|i (?:can(?:not|'t)|could not|couldn't|won't|will not) "
    r"(?:help|assist|answer|provide|determine|explain|do|comply|give|find|see|tell)|"
    r"i(?:'m| am) (?:unable|not able)|as an? (?:ai|language model|large language)|"
    r"(?:cannot|can't|unable to) (?:be determined|determine|provide an? (?:explanation|answer)))",
    re.IGNORECASE,
)

_MARKUP = re.compile(r"^(?:#{1,6}\s+|[-*•>]\s+|\d{1,2}[.)]\s+)+")
_HEADING = re.compile(r"^(?:#{1,6}\s+|\*\*)(?:explanation|answer|description|summary)\W*$", re.I)
_FENCE = re.compile(r"^\s*(?:```|~~~)\w*\s*$")
_EMPHASIS = re.compile(r"\*\*|__|`")
_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)[.!?](?=\s+[A-Z\"'“]|\s*$)")
_LEVEL_LINE = re.compile(r"\t\s*\d+\s*$", re.MULTILINE)
_DATA = re.compile(r"\s*(?:\{\s*[\"'}]|\[\s*[\"'{\[\]])")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」"}


class NotAnExplanationError(ValueError):
    """An answer that holds no explanation; the message says why, in a sentence."""


def shown_token(token: str) -> str:
    r"""A token as prompts show it: on one line, with `\n`, `\t` and other controls escaped."""
    return "".join(
        char
        if char == " " or (char.isprintable() and char != "\\")
        else char.encode("unicode_escape").decode("ascii")
        for char in token
    )


def parse_explanation(answer: str, instruction: str = "", *, truncated: bool = False) -> str:
    """The explanation in an answer: its first sentence, without lead-in, quotes and markup.

    Nothing is ever added: the result is a part of the answer.

    Args:
        answer: as the model gave it.
        instruction: what it was asked; an answer that repeats it is no explanation.
        truncated: whether the answer ran into its limit; then its first sentence must have ended.

    Raises:
        NotAnExplanationError: where the answer is empty, a refusal, an echo of the prompt, cut
            off, or anything else but a short phrase.
    """
    if not answer.strip():
        raise NotAnExplanationError("the answer is empty")
    if _LEVEL_LINE.search(answer) or "<start>" in answer:
        raise NotAnExplanationError("the answer repeats the prompt's activations")
    lines = [_bare(line) for line in answer.splitlines() if not _FENCE.match(line)]
    place = next((place for place, line in enumerate(lines) if line), 0)
    text = lines[place] if lines else ""
    ended = any(lines[place + 1 :])
    sentence = _SENTENCE_END.search(text)
    if sentence is not None:
        ended = True
        text = text[: sentence.start()]
    text = _bare(text).rstrip(" .;,:")
    _check(text, answer, instruction)
    if truncated and not ended:
        raise NotAnExplanationError("the answer was cut off within its first sentence")
    return text


def _bare(line: str) -> str:
    """A line without markup, lead-ins and quotation marks around it."""
    if _HEADING.match(line.strip()):
        return ""
    text = _EMPHASIS.sub("", _MARKUP.sub("", line.strip())).strip()
    before = None
    while text != before:
        before = text
        text = _unquoted(_LEAD_IN.sub("", text).strip())
    return text


def _unquoted(text: str) -> str:
    """The text without the quotation marks around all of it."""
    while len(text) >= 2 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def _check(text: str, answer: str, instruction: str) -> None:
    words = text.split()
    if _REFUSAL.search(text) or _REFUSAL.search(answer[:200]):
        raise NotAnExplanationError("the model declined to answer")
    if _DATA.match(answer):
        raise NotAnExplanationError("the answer is data, not words")
    if not any(char.isalpha() for char in text):
        raise NotAnExplanationError("the answer holds no words")
    if len(words) > MAX_WORDS:
        raise NotAnExplanationError(f"the answer is no short phrase but {len(words)} words")
    if len(text) > 12 * MAX_WORDS:
        raise NotAnExplanationError(f"the answer is no short phrase but {len(text)} characters")
    if any(len(word) > _LONGEST_WORD for word in words):
        raise NotAnExplanationError(f"more than {_LONGEST_WORD} characters in a row are no words")
    if len(words) >= 8 and len({word.casefold() for word in words}) < len(words) / 3:
        raise NotAnExplanationError("the answer says the same over and over")
    asked = [_plain(sentence) for sentence in re.split(r"(?<=[.?!:])\s", instruction)]
    if (len(words) >= 4 and _plain(text) in _plain(instruction)) or any(
        len(sentence.split()) >= 4 and sentence in _plain(text) for sentence in asked
    ):
        raise NotAnExplanationError("the answer repeats the question")


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
