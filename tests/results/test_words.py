"""Words of claims are explained on the first page: all that there are, and of a document those that its studies use."""

from __future__ import annotations

from typing import get_args

from made_up import study

from tlm.data.corpus import SAMPLERS
from tlm.data.injection import REMOVALS, SELECTIONS
from tlm.data.word_order import SHUFFLES
from tlm.results.words import CHOSEN, COMPRESSED, MEANINGS, MISSING, SHUFFLED, explained
from tlm.study.compression import Compression, Method
from tlm.study.treatments import MissingTokens, Sampled


def test_every_word_there_is_has_a_meaning() -> None:
    assert set(MEANINGS[MISSING]) == {*REMOVALS, *SELECTIONS}
    assert set(MEANINGS[CHOSEN]) == {*SAMPLERS} - {"random"}
    assert set(MEANINGS[SHUFFLED]) == {*SHUFFLES}
    assert set(MEANINGS[COMPRESSED]) == {*get_args(Method)}


def test_a_document_explains_the_words_of_its_studies_and_no_others() -> None:
    treated = study(
        sizes=(0, 100),
        treatments=[
            MissingTokens(task="topics", ws=100, count=1, selection="most_frequent"),
            Sampled(task="topics", ws=100, sampler="bm25"),
        ],
    )
    compressed = study(sizes=(0, 100), evaluations=[Compression(method="int8")])
    missing, chosen, smaller = explained([treated, compressed, treated])
    assert "*unk*: every occurrence becomes" in missing and "*most\\_frequent*" in missing and "*delete*" not in missing
    assert "*bm25*" in chosen and "*coverage*" not in chosen
    assert "*int8*" in smaller and "*wanda*" not in smaller
    assert not [*explained([study(sizes=(0, 100))])]
