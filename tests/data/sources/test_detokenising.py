"""Text that was cut into words, as people write it; and only where a study asks for it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlm.data import sources
from tlm.data.sources.detokenising import detokenised
from tlm.study.sources import WikipediaSource


@pytest.mark.parametrize(
    ("cut", "written"),
    [
        ("Li ( born 1928 ) is the world 's leading investor .", "Li (born 1928) is the world's leading investor."),
        ("worth US $ 29.4 billion , 50 % of it ;", "worth US $29.4 billion, 50% of it;"),
        ("'Budgie ' and his friends ' series , ( St. Mary 's ) .", "'Budgie' and his friends' series, (St. Mary's)."),
        ("They do n't , we 've", "They don't, we've"),
        ('a bullet of .5 inches - and " this "', 'a bullet of .5 inches - and " this "'),
        ("[ [ x ] ] , no ? !", "[[x]], no?!"),
    ],
)
def test_marks_stand_where_people_put_them(cut: str, written: str) -> None:
    assert detokenised(cut) == written


@given(st.text(st.sampled_from("ab 's.,()$5-n\n"), max_size=40))
def test_nothing_but_spaces_goes_and_what_is_written_stays(text: str) -> None:
    once = detokenised(text)
    assert once.replace(" ", "") == text.replace(" ", "")
    assert detokenised("They don't, (we've) 50% 'so' $5.") == "They don't, (we've) 50% 'so' $5."


def test_a_source_is_another_one_with_it(tmp_path: Path) -> None:
    (tmp_path / "wikipedia").mkdir()
    table = pa.table({"id": ["1"], "text": ["John 's ship , ( sunk ) ."]})
    pq.write_table(table, tmp_path / "wikipedia/a.parquet")
    plain, other = (WikipediaSource(origin="local", detokenise=each) for each in (False, True))
    texts = [sources.read(each, str(tmp_path)).table["text"].to_pylist() for each in (plain, other)]
    assert texts == [["John 's ship , ( sunk ) ."], ["John's ship, (sunk)."]]
    known = [sources.identity(each, str(tmp_path)) for each in (plain, other)]
    assert known[0].keys() | {"detokenise"} == known[1].keys() and "detokenise" not in known[0]
