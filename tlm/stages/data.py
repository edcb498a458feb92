"""Stages that prepare data: source, tokenizer, tokens, corpus, task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from tlm.data import sources
from tlm.data.corpus import Sample, sample_corpus
from tlm.data.items import PARTS, select_items
from tlm.data.ragged import Ragged, concatenate
from tlm.data.tokenizer import (
    Vocabulary,
    encode,
    fetch_hub_vocabulary,
    load_tokenizer,
    read_vocabulary,
    tokenizer_identity,
    train_wordpiece,
    vocabulary_path,
    write_vocabulary,
)
from tlm.errors import UserError
from tlm.stages.job import Facts, Job
from tlm.stages.tokens import task_tokens
from tlm.study.config import ItemSelection, Tokenizer, TrainedTokenizer, VocabularyTokenizer
from tlm.study.sources import Source

TOKENIZE_AT_ONCE = 4_096


def source(job: Job) -> Facts:
    """rows.parquet: item_id, text, split and, for a labelled source, label."""
    given: Any = TypeAdapter(Source).validate_python(job.step.access["source"])
    if sources.identity(given, job.runtime.data_root) != job.config:
        raise UserError(f"source {given.kind} changed between planning and reading it.", "Run the study again.")
    loaded = sources.read(given, job.runtime.data_root, progress=job.progress)
    job.write(loaded.table, "rows.parquet")
    splits = loaded.table.column("split").value_counts().to_pylist()
    return {
        "rows": loaded.table.num_rows,
        "label_names": list(loaded.label_names) if loaded.label_names is not None else None,
        "by_split": {entry["values"]: entry["counts"] for entry in splits},
        **loaded.facts,
    }


def tokenizer(job: Job) -> Facts:
    """vocab.txt and, for other programs, tokenizer.json."""
    config: Any = TypeAdapter(Tokenizer).validate_python(job.step.access["tokenizer"])
    if isinstance(config, TrainedTokenizer):
        texts = job.frame("source", "rows.parquet", ["text"])["text"]
        write_vocabulary(train_wordpiece(texts, config), job.out / "vocab.txt")
    else:
        path = _given_vocabulary(config, job)
        (job.out / "vocab.txt").write_bytes(path.read_bytes())
    vocabulary = read_vocabulary(job.out / "vocab.txt")
    load_tokenizer(vocabulary, lowercase=config.lowercase).save(str(job.out / "tokenizer.json"))
    return {"vocab_size": len(vocabulary), "lowercase": config.lowercase}


def _given_vocabulary(config: Any, job: Job) -> Path:
    if isinstance(config, VocabularyTokenizer):
        if tokenizer_identity(config, job.runtime.data_root) != job.config:
            raise UserError(f"{config.path} changed between planning and reading it.", "Run the study again.")
        return vocabulary_path(config, job.runtime.data_root)
    path = fetch_hub_vocabulary(config)
    read_vocabulary(path, f"{config.repo}/vocab.txt")
    return path


def tokens(job: Job) -> Facts:
    """Every text of a source as uint16 ids, cut to max_length - 2 so that [CLS] and [SEP] fit. Row i is source row i."""
    max_length = int(job.step.config["max_length"])
    vocabulary = job.vocabulary()
    lowercase = bool(job.inputs["tokenizer"].record.facts["lowercase"])
    texts = pq.read_table(job.inputs["source"].path("rows.parquet"), columns=["text"]).column("text")
    encoded = _encode(texts, vocabulary, lowercase, max_length - 2, job)
    encoded.save(job.out, "tokens")
    lengths = encoded.lengths
    return {
        "sequences": len(encoded),
        "tokens": int(lengths.sum()),
        "mean_length": float(lengths.mean()),
        "full_length": int((lengths == max_length - 2).sum()),
    }


def _encode(texts: Any, vocabulary: Vocabulary, lowercase: bool, length: int, job: Job) -> Ragged:
    encoder = load_tokenizer(vocabulary, lowercase=lowercase, max_length=length)
    parts = []
    for start in range(0, len(texts), TOKENIZE_AT_ONCE):
        chunk = texts.slice(start, TOKENIZE_AT_ONCE).to_pylist()
        parts.append(encode(encoder, chunk))
        job.progress(min(start + TOKENIZE_AT_ONCE, len(texts)), len(texts))
    return concatenate(parts)


def corpus(job: Job) -> Facts:
    """A pre-training set: its tokens, its held-out part, and the source rows of sample, held-out part and reserve.

    Inputs task, task_tokens and tokenizer belong to a sampler that chooses by a task: by its training items alone.
    """
    encoded = job.sequences("tokens")
    if "task" in job.inputs:
        special = list(job.vocabulary().special_ids)
        types, task_types = (t.keep(~np.isin(t.ids, special)) for t in (encoded, task_tokens(job, "train")))
        sample = sample_corpus(types, task=task_types, **job.config)  # type: ignore[arg-type]
    else:
        sample = sample_corpus(encoded, **job.config)  # type: ignore[arg-type]
    facts = write_corpus(job, encoded.take(sample.rows), encoded.take(sample.heldout))
    write_rows(job, sample)
    return facts if sample.core is None else {**facts, "core": sample.core}


def write_corpus(job: Job, tokens: Ragged, heldout: Ragged) -> Facts:
    """Save what every pre-training set has, tokens and a held-out part, and return the facts about them."""
    tokens.save(job.out, "tokens")
    heldout.save(job.out, "heldout")
    lengths = tokens.lengths
    return {
        "ws": len(tokens),
        "heldout": len(heldout),
        "tokens": int(lengths.sum()),
        "mean_length": float(lengths.mean()),
    }


def write_rows(job: Job, sample: Sample) -> None:
    """Save the source rows of a pre-training set that is all of one source, for `Job.sample` to read."""
    for role, rows in (("rows", sample.rows), ("heldout_rows", sample.heldout), ("reserve_rows", sample.reserve)):
        np.save(job.out / f"{role}.npy", rows)


def task(job: Job) -> Facts:
    """items.parquet: row (in the source), item_id, label, part."""
    names = job.inputs["source"].record.facts["label_names"]
    if names is None:
        raise UserError(
            f"task {job.step.labels['task']}: its source has no labels.",
            "Name its label_column, or use another source.",
        )
    table = pq.read_table(job.inputs["source"].path("rows.parquet"), columns=["item_id", "label", "split"])
    selection = ItemSelection.model_validate(job.config)
    items = select_items(table.to_pandas(), tuple(names), selection, str(job.step.labels["task"]))
    items.insert(1, "item_id", table.column("item_id").take(items["row"].to_numpy()).to_pandas())
    job.write(items, "items.parquet")
    sizes = items["part"].value_counts()
    return {"labels": int(items["label"].max()) + 1, **{part: int(sizes[part]) for part in PARTS}}
