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
        import pyarrow.parquet as pq

        from tlm.data.ragged import concatenate
        from tlm.data.tokenizer import cut
        from tlm.data.unknown import Known, check_known

        length = None if self.max_length is None else self.max_length - 2
        tokenizer = job.tokenizer()
        texts = pq.read_table(job.inputs["source"].path("rows.parquet"), columns=["text"]).column("text")
        known, chunks = Known(), []
        for start in range(0, len(texts), TOKENIZE_AT_ONCE):
            some = texts.slice(start, TOKENIZE_AT_ONCE).to_pylist()
            whole = tokenizer.encode(some)
            known.add(tokenizer, some, whole)
            chunks.append(whole if length is None else cut(tokenizer, whole, length))
            job.progress(min(start + TOKENIZE_AT_ONCE, len(texts)), len(texts))
        facts = known.facts()
        trained = "source" in job.inputs["tokenizer"].record.inputs
        check_known(facts, f"source {job.inputs['source'].record.slug}", trained=trained)
        encoded = concatenate(chunks)
        encoded.save(job.out, "tokens")
        lengths = encoded.lengths
        return {
            "sequences": len(encoded),
            "tokens": int(lengths.sum()),
            "mean_length": float(lengths.mean()),
            **({} if length is None else {"full_length": int((lengths == length).sum())}),
            **facts,
        }

    @classmethod
    def notes(cls, record: Record) -> list[str]:
        from tlm.data.unknown import say_unknown

        empty = record.facts["without_token"]
        have = "text has" if empty == 1 else "texts have"
        return [say_unknown(record.facts), *([f"{empty:,} {have} no token"] if empty else [])]
