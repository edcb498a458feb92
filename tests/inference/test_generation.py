"""Decoders write what their own logits say, of subwords and of bytes, and the same again from the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import mini_study, only, write_mini_data
from rich.console import Console

from flows.generating import generate_in_terminal
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.execute import execute
from tlm.inference.generation import Writer
from tlm.inference.resolve import find_decoder
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan

SHAPE = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
BYTES = {"head_size": 8, "num_hidden_layers": 1, "options": {"byte": {"width": 16, "patch_bytes": 8}}}
ALONE: dict[str, Any] = {
    "treatments": [],
    "treatment_architectures": None,
    "committees": [],
    "corpus__sizes": [60],
    "max_length": 48,
}
STUDIES: dict[str, dict[str, Any]] = {
    "subword": {"architectures": [{"name": "gpt", "kind": "decoder", **SHAPE}, {"name": "one", **SHAPE}]},
    "byte": {
        "architectures": [{"variant": "byte-micro", "name": "gpt", **BYTES}],
        "tokenizer": {"kind": "bytes", "patch_bytes": 8},
    },
}


@pytest.fixture(scope="module", params=STUDIES)
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """Of a home with pre-trained models."""
    folder: Path = tmp_path_factory.mktemp("writing")
    runtime = Runtime(home=str(folder / "home"), data_root=str(write_mini_data(folder / "raw")), isolate=False)
    planned = plan(mini_study(**{**ALONE, **STUDIES[request.param]}, pretrain__steps=30), runtime.data_root)
    needed = {only(planned, "pretrain", arch="gpt").key}
    for step in reversed(planned.steps):
        if step.key in needed or step.stage == "pretrain":
            needed |= {step.key, *(ref.key for ref in step.inputs.values())}
    for step in planned.steps:
        if step.key in needed:
            execute(step, runtime)
    return runtime


@pytest.fixture(scope="module")
def writer(runtime: Runtime) -> Writer:
    store = ArtifactStore(runtime.artifacts)
    return Writer.load(store, find_decoder(store, "pretrain/gpt"))


def test_the_likeliest_token_follows_each_time_as_a_plain_forward_pass_has_it(writer: Writer) -> None:
    vocabulary = writer.tokenizer.vocabulary
    never = [token for token in vocabulary.special_ids if token != vocabulary.sep]
    for prompt in ("the old ship", ""):
        (written,) = writer.write([prompt], tokens=12, temperature=0)
        ids = [vocabulary.begin, *written.ids, *([vocabulary.sep] if written.ended else [])]
        prompted = writer.tokenizer.encode([prompt])[0].tolist()
        if prompted and prompted[-1] == vocabulary.sep:
            prompted.pop()  # of bytes: the patch may go on
        assert list(written.ids[: len(prompted)]) == prompted and len(ids) > 1 + len(prompted)
        for place in range(1 + len(prompted), len(ids)):
            with torch.inference_mode():
                logits_V = writer.model(torch.tensor([ids[:place]])).logits[0, -1].clone()
                logits_V[[token for token in never if token < len(logits_V)]] = -torch.inf
            assert ids[place] == int(logits_V.argmax())
        assert written.text.startswith(prompt)


def test_what_is_drawn_depends_on_seed_and_place_alone(writer: Writer) -> None:
    def texts(prompts: list[str], **asked: Any) -> list[str]:
        return [written.text for written in writer.write(prompts, tokens=12, **asked)]

    both = texts(["the old", "a"], seed=3)
    assert texts(["the old"], seed=3) == both[:1] and texts(["the", "a"], seed=3)[1] == both[1]
    assert len({*texts(["the"] * 4, temperature=2.0), *texts(["the"] * 4, temperature=2.0, seed=1)}) > 4
    assert texts(["the"], top_k=1, seed=9) == texts(["the"], temperature=0)


def test_a_text_that_the_model_ends_is_done(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the end is made the likeliest, a text of subwords ends; one of bytes ends its patch, then itself."""
    sep = writer.tokenizer.vocabulary.sep

    def ending(self: Writer, texts: list[list[int]]) -> Any:
        logits_BV = np.zeros((len(texts), 258))
        logits_BV[:, sep] = 1.0
        return logits_BV

    monkeypatch.setattr(Writer, "_logits", ending)
    (written,) = writer.write(["the"], tokens=5, temperature=0)
    assert written.ended and written.text == "the"
    assert [token == sep for token in written.ids] == [*[False] * (len(written.ids) - 1), sep == 256]


def test_what_makes_no_sense_is_refused(runtime: Runtime, writer: Writer) -> None:
    room = writer.max_length - 2
    with pytest.raises(UserError, match=f"reads {room} tokens at most") as told:
        writer.write(["the"], tokens=room)
    assert "Ask for" in told.value.remedy
    for wrong in ({"tokens": 0}, {"tokens": 1, "temperature": -1.0}, {"tokens": 1, "top_k": 0}):
        with pytest.raises(UserError):
            writer.write(["the"], **wrong)
    store = ArtifactStore(runtime.artifacts)
    with pytest.raises(UserError, match="No pre-trained decoder is named 'nothing'") as told:
        find_decoder(store, "nothing")
    assert "pretrain/gpt" in told.value.remedy
    if len(list(store.records())) and any(record.slug.startswith("one") for record in store.records()):
        with pytest.raises(UserError, match="is an encoder"):
            find_decoder(store, "pretrain/one")


def test_the_terminal_shows_one_text_a_line(runtime: Runtime) -> None:
    console = Console(width=400, record=True)
    generate_in_terminal(
        "gpt", ["the", "the"], runtime, console, console, tokens=6, temperature=1.0, top_k=None, seed=0
    )
    lines = console.export_text().splitlines()
    assert len(lines) == 2 and all(line.startswith("the") for line in lines)
