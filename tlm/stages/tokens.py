"""Stage `tokens`: every text of a source as token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import FiniteFloat

from tlm.stages.base import Count, Stage
from tlm.stages.source import Source
from tlm.stages.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tlm.artifacts.record import Record
    from tlm.stages.job import Facts, Job

TOKENIZE_AT_ONCE = 4_096
"""Texts."""


class Tokens(Stage, name="tokens", version="1"):
    """Every text of a source as uint16 ids, cut to max_length - 2 so that [CLS] and [SEP] fit. Row i is source row i."""

    tokenizer: Tokenizer
    source: Source
    max_length: int | None
    """None: texts are whole, for rows that are packed."""

    outputs = {"tokens.ids.npy": None, "tokens.offsets.npy": None}
    told = {
        **dict.fromkeys(("words", "unknown_words", "letters", "unknown_letters", "without_token"), Count),
        "mean_length": FiniteFloat,
        "unknown_most": list[tuple[str, Count]],
    }

    @property
    def slug(self) -> str:
        return self.source.step.slug

    def run(self, job: Job) -> Facts:
        from tlm.data.ragged import saving
        from tlm.data.tokenizer import cut
        from tlm.data.unknown import Known, check_known

        length = None if self.max_length is None else self.max_length - 2
        tokenizer = job.tokenizer()
        rows = job.inputs["source"].record.facts["rows"]
        known, sequences, total, full = Known(), 0, 0, 0
        with saving(job.out, "tokens") as write:
            for texts in job.texts(TOKENIZE_AT_ONCE):
                whole = tokenizer.encode(texts)
                known.add(tokenizer, texts, whole)
                lengths = write(whole if length is None else cut(tokenizer, whole, length))
                sequences, total = sequences + len(lengths), total + int(lengths.sum())
                full += int((lengths == length).sum())
                job.progress(sequences, rows)
        facts = known.facts()
        trained = "source" in job.inputs["tokenizer"].record.inputs
        check_known(facts, f"source {job.inputs['source'].record.slug}", trained=trained)
        return {
            "sequences": sequences,
            "tokens": total,
            "mean_length": total / sequences,
            **({} if length is None else {"full_length": full}),
            **facts,
        }

    @classmethod
    def notes(cls, record: Record) -> list[str]:
        from tlm.data.unknown import say_unknown

        empty = record.facts["without_token"]
        have = "text has" if empty == 1 else "texts have"
        return [say_unknown(record.facts), *([f"{empty:,} {have} no token"] if empty else [])]
