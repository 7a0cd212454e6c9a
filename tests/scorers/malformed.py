"""Answers that no judge's prompt takes; every prompt of a scorer is given all of them."""

from autointerp.llm import Response, ResponseStatus

MALFORMED: list[str | Response] = [
    *("", " ", "\n\n", "\t", "​", "...", "!!!", "—", "🙂", "```", "```\n```", "```json\n```"),
    *("true", "false", "yes", "1", "0", "null", '"true"', "NaN", "Infinity", "[]", "{}", "[[[["),
    *("[true, false, true]", "[1, 2, 1]", "Yes, no, yes.", "1. true\n2. false", "True False"),
    *('{"answers": ', '{"answers": [', '{"answers": [true', '{"answers": []}', '{"answers": {}}'),
    *('{"answers": null}', '{"answers": true}', '{"answers": "true"}', '{"answers": [[]]}'),
    *('{"answers": ["true"]}', '{"answers": ["yes", "no"]}', '{"answers": [null]}'),
    *('{"answers": [0.5]}', '{"answers": [1.5, 2.5]}', '{"answers": [NaN]}', '{"answers": [-1]}'),
    *('{"answers": [99]}', '{"answers": [1e999]}', "{'answers': [True]}", '{"answer": [true]}'),
    '{"answers": ' + "[" * 500 + "]" * 500 + "}",
    '{"answers": [' + ", ".join(["true"] * 300) + "]}",
    '{"answers": [' + ", ".join(["1"] * 300) + "]}",
    '{"answers": [true], "answers": [false]}',
    '{"answers": [true]} and that is my answer',
    'Sure! {"answers": [true, false]}',
    "I'm sorry, I cannot help with that.",
    "As an AI language model, I have no access to units.",
    "x" * 5000,
    '{"answers": [tru\x00e]}',
    Response(None, ResponseStatus.EMPTY),
    Response(None, ResponseStatus.REFUSED, reason="policy"),
    Response(None, ResponseStatus.FAILED, reason="no memory"),
    Response(None, ResponseStatus.OK),
    Response('{"answers": [true', ResponseStatus.TRUNCATED, reason="cut off after 3 tokens"),
    Response("no JSON", ResponseStatus.MALFORMED, reason="the answer is not JSON"),
]
"""Strings that end by themselves, and responses."""
