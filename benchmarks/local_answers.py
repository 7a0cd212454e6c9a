"""Whether the local model's answers follow their schema, and what that costs.

100 detection answers (five numbered texts, an index and a yes or no each) and 100 explanations are
asked of the embedded model: with the schema enforced, and some of the same without. Prints JSON.

    python benchmarks/local_answers.py [--n 100]
"""

import argparse
import json
import time
from collections.abc import Callable

from autointerp import resources
from autointerp.llm import Message, Request, Response, ResponseStatus, load_client
from autointerp.llm.local import LocalClient
from autointerp.recording.corpus import read_corpus

N_TEXTS = 5
MAX_LENGTH = 160

_ITEM = {
    "type": "object",
    "properties": {"index": {"type": "integer"}, "answer": {"type": "boolean"}},
    "required": ["index", "answer"],
    "additionalProperties": False,
}
DETECTION = {"type": "array", "items": _ITEM, "minItems": N_TEXTS, "maxItems": N_TEXTS}
EXPLANATION = {
    "type": "object",
    "properties": {"explanation": {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH}},
    "required": ["explanation"],
    "additionalProperties": False,
}


def detection(texts: list[str], schema: bool) -> Request:
    lines = "\n".join(f"{n}. {text}" for n, text in enumerate(texts, 1))
    return Request(
        (
            Message(
                "user",
                "For every text, say whether it holds a number. Answer in JSON, a list of objects "
                f'with "index" and "answer" (true or false).\n{lines}',
            ),
        ),
        150,
        schema=DETECTION if schema else None,
    )


def explanation(texts: list[str], schema: bool) -> Request:
    words = ", ".join(word for text in texts for word in text.split()[:3])
    return Request(
        (
            Message(
                "user",
                'What do these words have in common? Answer in JSON with the key "explanation".\n'
                + words,
            ),
        ),
        # Room for the longest answer: a character may be four tokens, one a byte.
        32 + 4 * MAX_LENGTH,
        schema=EXPLANATION if schema else None,
    )


def parses_as_detection(text: str) -> bool:
    answers = json.loads(text)
    return len(answers) == N_TEXTS and all(
        set(item) == {"index", "answer"}
        and type(item["index"]) is int
        and type(item["answer"]) is bool
        for item in answers
    )


def parses_as_explanation(text: str) -> bool:
    return bool(json.loads(text)["explanation"])


def share(responses: list[Response], check: Callable[[str], bool]) -> int:
    def good(response: Response) -> bool:
        if response.status is not ResponseStatus.OK or response.text is None:
            return False
        try:
            return check(response.text)
        except (ValueError, KeyError, TypeError, AttributeError):
            return False

    return sum(map(good, responses))


def measure(
    client: LocalClient, requests: list[Request], check: Callable[[str], bool]
) -> dict[str, float]:
    started = time.monotonic()
    responses = client.complete(requests)
    seconds = time.monotonic() - started
    tokens = sum(response.usage.output_tokens for response in responses)
    return {
        "answers": len(requests),
        "parsed": share(responses, check),
        "seconds": round(seconds, 1),
        "output_tokens": tokens,
        "output_tokens_per_second": round(tokens / seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--n-free", type=int, default=20)
    parser.add_argument("--only", choices=["detection", "explanation"])
    options = parser.parse_args()
    client = load_client("local/smollm2")
    assert isinstance(client, LocalClient)
    documents = read_corpus(resources.shipped_path("demo", "corpus.jsonl")).documents
    groups = [
        [" ".join(d.text.split()[:12]) for d in documents[i : i + N_TEXTS]]
        for i in range(0, N_TEXTS * options.n, N_TEXTS)
    ]
    found = {}
    for name, make, check in (
        ("detection", detection, parses_as_detection),
        ("explanation", explanation, parses_as_explanation),
    ):
        if options.only not in (None, name):
            continue
        requests = [make(group, True) for group in groups]
        free = [make(group, False) for group in groups[: options.n_free]]
        found[name] = {
            "with_schema": measure(client, requests, check),
            "without": measure(client, free, check),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
