"""WordPiece: vocabularies are checked, ids are those of BERT's own tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell import real_data_root
from tokenizers import Tokenizer as FastTokenizer

from tlm.data.tokenizer import Vocabulary
from tlm.data.wordpiece import (
    HubTokenizer,
    TrainedTokenizer,
    VocabularyTokenizer,
    WordPiece,
    bert_vocabulary,
    fetch_hub_vocabulary,
    read_vocabulary,
    write_vocabulary,
)
from tlm.data.wordpiece_training import SPECIAL_TOKENS
from tlm.errors import UserError

WORDS = [
    "the",
    "hello",
    "world",
    "un",
    "##aff",
    "##able",
    "##s",
    "a",
    "b",
    "c",
    "n",
    "na",
    "##i",
    "##ve",
    "naive",
    "cafe",
    "caf",
    "##e",
    "!",
    ",",
    ".",
    "'",
    "-",
    "[",
    "]",
    "mask",
    "cls",
    "1",
    "##2",
    "##3",
    "$",
    "ü",
    "über",
    "中",
    "文",
    "ß",
    "istanbul",
    "i",
    "#",
]

TRICKY = [
    "Hello, WORLD!",
    "unaffable",
    "naïve café über Ünaffable",
    "cafe\u0301 (combining accent)",
    "中文 and 中 文 mixed: a中b",
    "tabs\tand\nlines\r\nand\u00a0no-break\u2009spaces",
    "zero\u200bwidth and \ufeffmark",
    "control\x00\x01\x7fcharacters",
    "İstanbul ß ﬁ ①",
    "emoji 👍🏽 end",
    "don't -- a-b $12.3",
    "x" * 150,
    "##able # ##",
    "",
    "   ",
    "a" * 100 + " " + "b" * 101,
]


def saved(tmp_path: Path, tokens: tuple[str, ...]) -> Path:
    write_vocabulary(tokens, tmp_path / "vocab.txt")
    return tmp_path / "vocab.txt"


def reference_ids(path: Path, texts: list[str], lowercase: bool) -> list[list[int]]:
    from transformers import BertTokenizer

    vocab = {token: i for i, token in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1])}
    reference = BertTokenizer(vocab=vocab, do_lower_case=lowercase)
    assert len(reference) == len(vocab), "transformers read another vocabulary than it was given"
    return [reference(text, add_special_tokens=False)["input_ids"] for text in texts]


def own_ids(vocabulary: Vocabulary, texts: list[str], lowercase: bool = True) -> list[list[int]]:
    encoded = WordPiece(vocabulary, lowercase).encode(texts)
    return [encoded[index].tolist() for index in range(len(encoded))]


@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_are_those_of_transformers_on_tricky_text(lowercase: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, (*SPECIAL_TOKENS, *WORDS))
    assert own_ids(read_vocabulary(path), TRICKY, lowercase) == reference_ids(path, TRICKY, lowercase)


@given(
    st.lists(
        st.lists(st.sampled_from([*"abcnieuv üß中文#!,'-[]123$", "\u0301", "\u200b", "\xa0", "\t", "the"])).map("".join)
    )
)
def test_each_word_is_encoded_once_and_ids_are_those_of_whole_texts(texts: list[str]) -> None:
    tokenizer = WordPiece(bert_vocabulary((*SPECIAL_TOKENS, *WORDS)))
    whole = [encoding.ids for encoding in tokenizer._fast.encode_batch(texts, add_special_tokens=False)]
    encoded = tokenizer.encode(texts)
    assert [encoded[index].tolist() for index in range(len(encoded))] == whole
    cut = tokenizer.encode(texts, 2)
    assert [cut[index].tolist() for index in range(len(cut))] == [ids[:2] for ids in whole]


def test_ids_are_those_of_transformers_with_the_real_vocabulary() -> None:
    root = real_data_root()
    if not root:
        pytest.skip("TLM_DATA_ROOT is not set")
    path = Path(root) / "bert-base-uncased/vocab.txt"
    vocabulary = read_vocabulary(path)
    assert len(vocabulary) == 30_522
    assert (vocabulary.pad, vocabulary.unk, vocabulary.cls, vocabulary.sep, vocabulary.mask) == (0, 100, 101, 102, 103)
    assert own_ids(vocabulary, TRICKY) == reference_ids(path, TRICKY, lowercase=True)
    assert own_ids(vocabulary, ["hello world"]) == [[7592, 2088]]


def test_special_tokens_written_in_a_text_are_ordinary_characters() -> None:
    """A text cannot smuggle in a [SEP] or a [MASK]."""
    vocabulary = bert_vocabulary((*SPECIAL_TOKENS, *WORDS))
    ids = own_ids(vocabulary, ["[MASK] the [CLS]"])[0]
    assert [vocabulary.tokens[i] for i in ids] == ["[", "mask", "]", "the", "[", "cls", "]"]


def test_texts_are_cut_to_the_given_number_of_tokens() -> None:
    vocabulary = bert_vocabulary((*SPECIAL_TOKENS, *WORDS))
    tokenizer = WordPiece(vocabulary)
    [whole] = own_ids(vocabulary, ["the unaffable world !"])
    assert tokenizer.encode(["the unaffable world !", "the"], 3)[0].tolist() == whole[:3]
    assert tokenizer.encode(["the unaffable world !", "the"], 3)[1].tolist() == whole[:1]
    assert tokenizer.encode(["the unaffable world !"])[0].tolist() == whole, "not cut without a length"


# --- reading a vocabulary ---


def test_a_vocabulary_reads_back_as_it_was_written(tmp_path: Path) -> None:
    tokens = ("x", *SPECIAL_TOKENS, "ü", "\u2028", "##y")
    vocabulary = read_vocabulary(saved(tmp_path, tokens))
    assert vocabulary.tokens == tokens
    assert vocabulary.special_ids == (1, 2, 3, 4, 5)
    assert len(vocabulary) == 9


def test_windows_line_ends_are_not_part_of_a_token(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("\r\n".join((*SPECIAL_TOKENS, "a", "")).encode())
    assert read_vocabulary(tmp_path / "vocab.txt").tokens == (*SPECIAL_TOKENS, "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "shown: no such vocabulary file.*TLM_DATA_ROOT"),
        (b"[PAD]\n[UNK]\nn\xe9", r"shown, line 3: not UTF-8 \(byte 13 of the file\)"),
        (b"", r"shown is not a BERT vocabulary: it lacks \['\[PAD\]', '\[UNK\]', '\[CLS\]', '\[SEP\]', '\[MASK\]'\]"),
        (b"text,label\nhello,1\n", "shown is not a BERT vocabulary: it lacks"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nx\n", r"lacks \['\[MASK\]'\]"),
        ("\n".join((*SPECIAL_TOKENS, "a", "b", "a")).encode(), "'a' stands in it more than once"),
        ("\n".join((*SPECIAL_TOKENS, *map(str, range(65_536)))).encode(), "has 65541 tokens, more than 65536"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_an_error_on_one_line(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        read_vocabulary(tmp_path / "vocab.txt", "shown")
    assert "\n" not in str(raised.value)


def test_a_folder_is_no_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a vocabulary file"):
        read_vocabulary(tmp_path)


# --- identity ---


def test_a_local_vocabulary_is_identified_by_its_content_not_its_place(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        saved(tmp_path / folder, (*SPECIAL_TOKENS, "x"))
    one = VocabularyTokenizer(path="vocab.txt").content(str(tmp_path / "a"))
    assert one == VocabularyTokenizer(path="b/vocab.txt").content(str(tmp_path))
    assert one != VocabularyTokenizer(path="vocab.txt", lowercase=False).content(str(tmp_path / "a"))
    saved(tmp_path / "b", (*SPECIAL_TOKENS, "y"))
    assert one != VocabularyTokenizer(path="b/vocab.txt").content(str(tmp_path))


def test_a_vocabulary_outside_the_data_root_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, (*SPECIAL_TOKENS, "x"))
    (tmp_path / "root").mkdir()
    with pytest.raises(UserError, match="leads outside the data root"):
        VocabularyTokenizer(path="../vocab.txt").content(str(tmp_path / "root"))


def test_other_tokenizers_are_identified_by_their_configuration() -> None:
    assert TrainedTokenizer(vocab_size=300).content("") == {
        "kind": "wordpiece",
        "vocab_size": 300,
        "limit_alphabet": 400,
        "lowercase": True,
    }
    assert HubTokenizer().content("")["revision"] == HubTokenizer().revision


def test_a_hub_vocabulary_that_is_not_cached_is_a_users_error_when_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def missing(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("not among the cached files")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", missing)
    with pytest.raises(UserError, match=r"vocab.txt of google-bert/bert-base-uncased at .*not among.*HF_HUB_OFFLINE"):
        fetch_hub_vocabulary(HubTokenizer())


# --- for transformers ---


def test_a_saved_tokenizer_says_what_its_special_tokens_are_and_that_no_text_can_spell_one(tmp_path: Path) -> None:
    tokens = (*reversed(SPECIAL_TOKENS), "the", "[", "]", "sep")
    WordPiece(bert_vocabulary(tokens), lowercase=False).save(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert {settings[f"{name}_token"] for name in ("pad", "unk", "cls", "sep", "mask")} == set(SPECIAL_TOKENS)
    assert settings["split_special_tokens"] and not settings["do_lower_case"]
    assert settings["model_input_names"] == ["input_ids", "attention_mask"], "GPT-2 would add the types' embedding"
    saved = FastTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert saved.encode("the [SEP]").tokens == ["[CLS]", "the", "[", "[UNK]", "]", "[SEP]"]


def test_saving_leaves_the_tokenizer_as_it_is(tmp_path: Path) -> None:
    tokenizer = WordPiece(bert_vocabulary((*SPECIAL_TOKENS, *WORDS)))
    before = tokenizer.encode(["the world"], 1)[0].tolist()
    tokenizer.save(tmp_path)
    assert tokenizer.encode(["the world"], 1)[0].tolist() == before and len(tokenizer.encode(["the world"])[0]) == 2
