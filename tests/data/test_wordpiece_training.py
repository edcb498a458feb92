"""A trained vocabulary repeats itself, holds pieces rather than characters, and knows words of any length."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from helpers import python, sentence
from hypothesis import given
from hypothesis import strategies as st

from tlm.data.wordpiece import TrainedTokenizer, WordPiece, read_vocabulary, write_vocabulary
from tlm.data.wordpiece_training import (
    CONTINUES,
    SPECIAL_TOKENS,
    WORD_LENGTH,
    choose_alphabet,
    count_pieces,
    cut_into_words,
    normalize,
    train_wordpiece,
)


def sentences(size: int = 150) -> list[str]:
    generator = random.Random(3)
    return [sentence(generator, ("sea", "land")[i % 2]) for i in range(size)]


def trained(texts: list[str], **options: object) -> WordPiece:
    return TrainedTokenizer.model_validate({"vocab_size": 256, **options}).make(lambda: texts, "")


def characters(tokens: tuple[str, ...]) -> list[str]:
    return [token for token in tokens if len(token.removeprefix(CONTINUES)) == 1]


def many_scripts() -> list[str]:
    """English in which every word of another script occurs twice: 2,000 more characters, alone and inside a word."""
    rare = [chr(0xAC00 + 5 * number) for number in range(1_000)]
    return [f"{text} {a}{b} {a}{b}" for text, a, b in zip(sentences(1_000), rare, reversed(rare), strict=True)]


def test_training_puts_the_special_tokens_first_and_keeps_to_the_size(tmp_path: Path) -> None:
    tokens = train_wordpiece(sentences(), vocab_size=256, limit_alphabet=1_000)
    assert tokens[:5] == SPECIAL_TOKENS
    assert len(tokens) <= 256 and len(set(tokens)) == len(tokens)
    write_vocabulary(tokens, tmp_path / "vocab.txt")
    assert read_vocabulary(tmp_path / "vocab.txt").tokens == tokens


def test_a_trained_vocabulary_knows_every_character_that_has_room() -> None:
    tokenizer = trained(sentences())
    assert tokenizer.vocabulary.unk not in tokenizer.encode(sentences()).ids


@pytest.mark.parametrize("vocab_size", [256, 400, 1_000])
def test_text_of_many_scripts_makes_no_vocabulary_of_characters_nor_one_larger_than_asked(vocab_size: int) -> None:
    tokens = train_wordpiece(many_scripts(), vocab_size=vocab_size, limit_alphabet=1_000)
    assert len(tokens) <= vocab_size
    assert len(characters(tokens)) <= vocab_size // 2
    assert set("abcdefghilmnorstuvwy") <= set(tokens), "the frequent ones stay"


def test_the_alphabet_has_the_number_of_characters_asked_for() -> None:
    alone = [token for token in train_wordpiece(many_scripts(), vocab_size=1_000, limit_alphabet=40) if len(token) == 1]
    assert len(alone) == 40


@given(
    st.dictionaries(st.characters(), st.integers(1, 3)), st.sets(st.characters()), st.integers(1, 9), st.integers(0, 9)
)
def test_the_alphabet_is_the_most_frequent_characters_that_have_room(
    counts: dict[str, int], continuing: set[str], limit: int, room: int
) -> None:
    chosen = choose_alphabet(counts, continuing, limit, room)
    assert len(chosen) <= limit and len(chosen) + len(continuing.intersection(chosen)) <= room
    left_out = counts.keys() - set(chosen)
    assert all(counts[kept] >= counts[other] for kept in chosen for other in left_out)
    assert chosen == choose_alphabet(dict(reversed(counts.items())), continuing, limit, room), "whatever their order"


@given(st.lists(st.text(max_size=12)), st.booleans())
def test_words_are_counted_as_if_each_text_were_cut_whole(texts: list[str], lowercase: bool) -> None:
    whole: Counter[str] = Counter()
    for text in texts:
        pieces = cut_into_words(WORD_LENGTH).pre_tokenize_str(normalize(lowercase).normalize_str(text))
        whole.update(piece for piece, _ in pieces)
    assert count_pieces(texts, lowercase) == whole


def test_the_tokens_are_those_that_the_library_finds_in_the_texts_themselves() -> None:
    from tokenizers import Tokenizer, models, trainers

    texts = [*many_scripts(), "naïve café 中文 ##a [MASK] don't", "x" * 250]
    tokens = train_wordpiece(texts, vocab_size=600, limit_alphabet=300)
    alone = [token for token in tokens[5:] if len(token) == 1]
    first = [token for token in tokens if token in SPECIAL_TOKENS or (token.startswith(CONTINUES) and len(token) == 3)]
    plain = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    plain.normalizer, plain.pre_tokenizer = normalize(lowercase=True), cut_into_words(WORD_LENGTH)
    plain.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=600,
            special_tokens=first,
            initial_alphabet=alone,
            limit_alphabet=len(alone),
            min_frequency=2,
            show_progress=False,
        ),
    )
    assert plain.get_vocab() == {token: number for number, token in enumerate(tokens)}


def test_training_and_encoding_repeat_themselves_in_another_process_with_other_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import json; from tlm.data.wordpiece import TrainedTokenizer;"
        " texts = json.load(open('texts.json'));"
        " tokenizer = TrainedTokenizer(vocab_size=500).make(lambda: texts, '');"
        " print(tokenizer.vocabulary.tokens, tokenizer.encode(texts).ids.tolist())"
    )
    (tmp_path / "texts.json").write_text(json.dumps(many_scripts()))
    elsewhere = python(code, cwd=tmp_path, RAYON_NUM_THREADS="3", PYTHONHASHSEED="5")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    tokenizer = trained(many_scripts(), vocab_size=500)
    here = f"{tokenizer.vocabulary.tokens} {tokenizer.encode(many_scripts()).ids.tolist()}\n"
    assert elsewhere.stdout == here, elsewhere.stderr


def test_letter_case_is_kept_only_if_asked_for() -> None:
    texts = ["Big Ship Big Ship", "Big Ship"] * 5
    assert "Big" in trained(texts, lowercase=False).vocabulary.tokens
    assert "big" in trained(texts).vocabulary.tokens


@pytest.mark.parametrize("length", [WORD_LENGTH, WORD_LENGTH + 1, 10 * WORD_LENGTH])
def test_a_word_of_any_length_is_made_of_pieces(length: int, tmp_path: Path) -> None:
    """Thai, Lao or Khmer puts no space between the words of a clause."""
    generator = random.Random(7)
    clauses = ["".join(generator.choices("กขคงจฉชซญฎ", k=length)) for _ in range(20)]
    tokenizer = trained(clauses)
    facts = tokenizer.save(tmp_path)
    again = TrainedTokenizer.load(lambda name: tmp_path / name, facts)
    for each in (tokenizer, again):
        encoded = each.encode(clauses)
        assert each.vocabulary.unk not in encoded.ids
        pieces = [each.vocabulary.tokens[token].removeprefix(CONTINUES) for token in encoded[0]]
        assert "".join(pieces) == clauses[0]


def test_the_tokenizer_as_other_programs_load_it_cuts_words_too(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    clause = "กขคงจ" * 60
    tokenizer = trained([clause, clause])
    tokenizer.save(tmp_path)
    elsewhere = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert elsewhere.encode(clause, add_special_tokens=False).ids == tokenizer.encode([clause])[0].tolist()
