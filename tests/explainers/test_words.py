import pytest

from autointerp.explainers.words import (
    NotAnExplanationError,
    parse_explanation,
    shown_token,
)

QUESTION = "What do these have in common? Answer with a short phrase, for one unit of many."


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("words for animals", "words for animals"),
        ("  words for animals.\n", "words for animals"),
        ('"words for animals"', "words for animals"),
        ("“words for animals.”", "words for animals"),
        ("'words for animals'.", "words for animals"),
        ("**words for animals**", "words for animals"),
        ("- words for animals\n- and more", "words for animals"),
        ("1. words for animals\n2. words for plants", "words for animals"),
        ("## Explanation\nwords for animals", "words for animals"),
        ("```\nwords for animals\n```", "words for animals"),
        ("\n\nwords for animals\n\nI hope this helps!", "words for animals"),
        ("Explanation: words for animals", "words for animals"),
        ("The explanation of unit 3 is: words for animals", "words for animals"),
        ("Answer:\nwords for animals", "words for animals"),
        ("Sure! Here is a short phrase: words for animals", "words for animals"),
        ("Here's the explanation:\n\n**words for animals**", "words for animals"),
        ("This neuron fires on words for animals.", "words for animals"),
        ("The unit responds strongly to words for animals.", "words for animals"),
        ("this feature activates when it sees words for animals", "words for animals"),
        ("The main thing this neuron does is find words for animals", "words for animals"),
        ("It seems that the unit responds to words for animals", "words for animals"),
        ("words for animals. They are mostly nouns. Some are not.", "words for animals"),
        (
            "words for animals, e.g. Dogs and i.e. Cats",
            "words for animals, e.g. Dogs and i.e. Cats",
        ),
        ('the word "cat"', 'the word "cat"'),
        ('"cat" and "dog"', '"cat" and "dog"'),
        ("food", "food"),
        ("Answers to questions", "Answers to questions"),
        ("phrases about the sea", "phrases about the sea"),
        ("surely and certainly", "surely and certainly"),
        ("слова о животных", "слова о животных"),
        ("動物", "動物"),
        ("the closing tag </b> in HTML", "the closing tag </b> in HTML"),
    ],
)
def test_the_phrase_is_found_in_an_answer(answer, text):
    assert parse_explanation(answer, QUESTION) == text


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("...", "no words"),
        ('""', "no words"),
        ("10", "no words"),
        ("```\n```", "no words"),
        ("Explanation:", "no words"),
        ("The unit responds to", "no words"),
        ("�����", "no words"),
        ("I'm sorry, but I can't help with that.", "declined"),
        ("I cannot determine what the unit responds to.", "declined"),
        ("As an AI language model, I have no opinion.", "declined"),
        ("As a large thing. I am unable to say. I'm sorry.", "declined"),
        ("Unfortunately it cannot be determined from these texts", "declined"),
        (" horse\t10\n dog\t9\n", "activations"),
        ("<start>\n horse", "activations"),
        ("The same without the zeros:\n<start>\n horse\t10", "activations"),
        ("What do these have in common?", "repeats the question"),
        ('The unit responds to the question "What do these have in common?"', "repeats"),
        ("Answer with a short phrase, for one unit of many", "repeats the question"),
        ("the the the the the the the the the the", "over and over"),
        ("a word is a word is a word is a word is a word is a word is", "over and over"),
        (" ".join(f"word{i}" for i in range(41)), "short phrase"),
        ("x" * 500, "short phrase"),
        ("lorem ipsum " * 400, "short phrase"),
    ],
)
def test_an_answer_without_a_phrase_says_why(answer, reason):
    with pytest.raises(NotAnExplanationError, match=reason):
        parse_explanation(answer, QUESTION)


def test_a_cut_off_answer_counts_where_its_first_sentence_ended():
    for whole in ("animals. They are", "animals\nThey are"):
        assert parse_explanation(whole, truncated=True) == "animals"
    with pytest.raises(NotAnExplanationError, match="cut off"):
        parse_explanation("words for animals that live", truncated=True)


def test_what_is_found_is_always_a_part_of_the_answer():
    for answer in ("It appears that X, Y.", "Sure, of course: a b c", "«the sea» and «the sky»"):
        assert parse_explanation(answer) in answer


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" of", " of"),
        ("\n", r"\n"),
        ("\t0\n", r"\t0\n"),
        ("\r\n", r"\r\n"),
        ("\\n", "\\\\n"),
        ("\u2028", r"\u2028"),
        ("\x85", r"\x85"),
        ("\u202e", r"\u202e"),
        ("\x00", r"\x00"),
        ("\ufffd", "\ufffd"),
        ("é動🎉", "é動🎉"),
    ],
)
def test_tokens_are_shown_on_one_line_with_nothing_invisible(token, shown):
    assert shown_token(token) == shown
    assert len(shown_token(token).splitlines()) == 1
