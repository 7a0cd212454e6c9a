"""BOS and character offsets under tokenizers of several kinds."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from autointerp.recording.corpus import Cutting, bos_ids, cut_corpus, read_corpus, sequences_of
from autointerp.recording.corpus.alignment import character_spans, encode
from autointerp.records import AutointerpError, Document, Split
from autointerp.subject.tokenizers import tokenizer_fingerprint

HARD = " naïve 北京🙂 e\u0301 👩\u200d👩\u200d👧 ﬁne\ttext 1234  x\n"


def llama_like(adds_bos: bool = True, space: str = "▁"):
    """Bytes for what is not in the vocabulary, a space before the text, BOS from a template."""
    vocabulary = {"<unk>": 0, "<s>": 1}
    vocabulary |= {f"<0x{byte:02X}>": 2 + byte for byte in range(256)}
    for piece in ("▁", *"abcdefghijklmnopqrstuvwxyz", "te", "xt"):
        vocabulary[piece] = len(vocabulary)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[("t", "e"), ("x", "t")],
            byte_fallback=True,
            unk_token="<unk>",
            fuse_unk=True,
        )
    )
    marked = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend(space), marked]) if space else marked
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def lowering():
    """Words in lower case without accents, as BERT reads them; no BOS."""
    vocabulary = {"[UNK]": 0, "naive": 1, "fine": 2, "text": 3, "x": 4, "1234": 5}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def document(text=HARD):
    return Document("d0", text, "d0")


def cut(tokenizer, text=HARD, **settings):
    settings = {"length": 12, "min_length": 1} | settings
    return sequences_of(document(text), Split.TEST, tokenizer, **settings)


def cells(text, starts, ends):
    """What is shown: tokens whose spans overlap are one cell."""
    shown, first = [], 0
    while first < len(starts):
        last, end = first, ends[first]
        while last + 1 < len(starts) and starts[last + 1] < end:
            last += 1
            end = max(end, ends[last])
        shown.append(text[starts[first] : end])
        first = last + 1
    return shown


def test_auto_puts_before_every_sequence_what_the_tokenizer_puts_before_a_text(tokenizer):
    assert bos_ids(tokenizer, "auto") == []
    assert bos_ids(llama_like(adds_bos=True), "auto") == [1]
    assert bos_ids(llama_like(adds_bos=False), "auto") == []


def test_always_and_never_are_followed(tokenizer):
    assert bos_ids(llama_like(adds_bos=True), "never") == []
    assert bos_ids(llama_like(adds_bos=False), "always") == [1]
    assert bos_ids(tokenizer, "always") == [tokenizer.bos_token_id]
    with pytest.raises(AutointerpError, match=r"corpus\.bos is `always`.*no beginning"):
        bos_ids(lowering(), "always")


def test_bos_stands_before_every_sequence_masked_and_without_a_place(tokenizer):
    with_bos, without = cut(llama_like()), cut(llama_like(), bos="never", length=11)
    assert len(with_bos) == len(without) > 2
    for a, b in zip(with_bos, without, strict=True):
        assert a.token_ids[0] == 1 and len(a.token_ids) <= 12
        assert np.array_equal(a.token_ids[1:], b.token_ids)
        assert a.masked.tolist()[:2] == [True, False]
        assert a.char_starts[0] == a.char_ends[0] == a.char_starts[1]
        assert a.sequence_id != b.sequence_id
    # It counts among the tokens that are masked at the start.
    masked = cut(llama_like(), n_masked_start=3)[0].masked
    assert masked.tolist()[:4] == [True, True, True, False]
    assert cut(llama_like(), n_masked_start=0)[0].masked.tolist()[:2] == [True, False]


def test_a_sequence_too_short_for_what_comes_before_is_refused():
    with pytest.raises(AutointerpError, match="hold no text after the 1 that"):
        cut(llama_like(), length=1)


@pytest.mark.parametrize("kind", ["bytes", "fallback", "slow"])
def test_characters_split_over_tokens_are_shown_whole(kind, tokenizer):
    chosen = {"bytes": tokenizer, "fallback": llama_like(), "slow": ByT5Tokenizer()}[kind]
    ((ids, spans),) = encode(chosen, [HARD])
    assert len(ids) > len(HARD) / 2
    starts, ends = spans[:, 0].tolist(), spans[:, 1].tolist()
    shown = cells(HARD, starts, ends)
    assert "".join(shown) == HARD
    assert not any("\ufffd" in cell for cell in shown)
    for char in "北🙂ﬁ\u0301\u200d":
        assert any(char in cell for cell in shown)
    # Every token of a character has its whole span, so a window may begin inside one.
    inside = [i for i in range(len(ids)) if HARD[starts[i] : ends[i]] == "🙂"]
    assert len(inside) >= (4 if kind != "bytes" else 1)


def test_sequences_cut_inside_a_character_both_show_it(tokenizer):
    text = "🙂🙂🙂🙂"
    for chosen in (llama_like(space=""), ByT5Tokenizer()):
        found = cut(chosen, text, length=6, bos="never", n_masked_start=0)
        for sequence in found:
            first, last = sequence.char_starts[0], sequence.char_ends.max()
            assert text[first:last] and set(text[first:last]) == {"🙂"}
        assert len(found) == 3 and found[1].char_starts[0] == 1 == found[0].char_ends[-1] - 1


def test_a_tokenizer_that_changes_the_text_still_has_places_in_it():
    ((_, spans),) = encode(lowering(), [HARD])
    starts, ends = spans.T.tolist()
    words = [HARD[a:b] for a, b in zip(starts, ends, strict=True)]
    assert words[0] == "naïve" and "1234" in words and words[-1] == "x"


def test_places_found_by_decoding_equal_those_that_the_tokenizer_gives(tokenizer):
    for chosen in (tokenizer, llama_like(space="")):
        ((ids, given),) = encode(chosen, [HARD])
        found = character_spans(chosen, HARD, ids.tolist())
        assert cells(HARD, *found.T.tolist()) == cells(HARD, *given.T.tolist())


def test_a_slow_tokenizer_that_loses_characters_goes_on_after_them():
    class Lossy(ByT5Tokenizer):
        def decode(self, token_ids, **_):
            return "".join(chr(i) if i < 128 else "\ufffd" for i in token_ids)

    text = "abéc d"
    spans = character_spans(Lossy(), text, [*map(ord, "ab"), 200, 201, *map(ord, "c d")])
    shown = [text[a:b] for a, b in spans]
    assert shown == ["a", "b", "", "", "c", " ", "d"]


def test_a_slow_tokenizer_cuts_a_corpus(tmp_path):
    (tmp_path / "c.txt").write_text(HARD)
    found = cut_corpus(read_corpus(tmp_path / "c.txt"), ByT5Tokenizer(), Cutting(10))
    assert sum(len(s.token_ids) for s in found.sequences) == len(HARD.encode())


def test_fingerprints_tell_tokenizers_apart_and_forget_how_they_were_called(tokenizer):
    slow = ByT5Tokenizer()
    kinds = [tokenizer, llama_like(), llama_like(adds_bos=False), lowering(), slow]
    prints = [tokenizer_fingerprint(kind) for kind in kinds]
    assert len(set(prints)) == len(kinds)
    again = llama_like()
    again.pad_token = "<unk>"
    before = tokenizer_fingerprint(again)
    again(["a", "a longer text"], padding=True, truncation=True, max_length=3)
    assert tokenizer_fingerprint(again) == before == prints[1]
    assert tokenizer_fingerprint(ByT5Tokenizer()) == prints[4]
