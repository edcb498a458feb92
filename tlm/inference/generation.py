"""Text that a pre-trained decoder writes on from a prompt, token by token.

    store = ArtifactStore("data/artifacts")
    writer = Writer.load(store, find_decoder(store, "pretrain/plain"))
    writer.write(["The sea"], tokens=40, temperature=0.8, top_k=50, seed=0)[0].text

Each token is drawn from what the model says in just the way in which `tlm.evaluation.likelihood` scores a text; nothing is
kept between tokens. Shapes: B prompts, R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import ArtifactStore
from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Readable, Tokenizer, load_tokenizer
from tlm.errors import UserError
from tlm.inference.models import whole
from tlm.modeling.families.base import ModelFamily, family_of
from tlm.modeling.interchange import CONFIG_FILE, WEIGHTS_FILE, load_strict
from tlm.modeling.layout import Queries
from tlm.study.architecture import Architecture


@dataclass(frozen=True)
class Written:
    """A prompt and what follows it, as text; `ended`: whether the model ended the text itself."""

    text: str
    ids: tuple[int, ...]
    """Of the whole text, without special tokens."""
    ended: bool


@dataclass(frozen=True)
class Writer:
    """A pre-trained decoder with its tokenizer."""

    name: str
    model: PreTrainedModel = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    max_length: int
    """Tokens of a text at most, [CLS] and [SEP] counted."""
    device: str = "cpu"

    @classmethod
    def load(cls, store: ArtifactStore, ref: ArtifactRef, device: str = "cpu") -> Writer:
        """The model of a pretrain artifact (found by `tlm.inference.resolve.find_decoder`), in float32.

        Raises:
            UserError: if that artifact or its tokenizer is missing or damaged, or its ids cannot be shown as text.
        """
        artifact = whole(store, ref)
        record = artifact.record
        shape = Architecture.model_validate({"name": str(record.labels["arch"]), **record.config["architecture"]})
        tokenizer = load_tokenizer(whole(store, record.inputs["tokenizer"]))
        if not isinstance(tokenizer, Readable):
            raise UserError(
                f"{record.inputs['tokenizer']}: this kind of tokenizer has no `readable`, which shows ids as text.",
                "Add it to its class.",
            )
        return cls(
            name=str(ref),
            model=load_strict(family_of(shape).language_model, artifact.folder((CONFIG_FILE, WEIGHTS_FILE))).to(device),
            tokenizer=tokenizer,
            max_length=int(record.config["max_length"]),
            device=device,
        )

    def write(
        self, prompts: Sequence[str], *, tokens: int, temperature: float = 1.0, top_k: int | None = None, seed: int = 0
    ) -> list[Written]:
        """Each prompt with up to `tokens` more tokens; fewer if the model ends the text.

        What is written for a prompt depends on it, on its place among the prompts and on `seed`, not on the other prompts.
        [UNK], [MASK] and other special tokens are never written.

        Args:
            prompts: texts; an empty one is the beginning of a text.
            temperature: logits are divided by it; 0 takes the likeliest token (of equals the one with the lowest id).
            top_k: only so many of the likeliest tokens are drawn from; None: all.

        Raises:
            UserError: if a prompt and `tokens` do not fit `max_length`, or an argument has no sense.
        """
        _check(tokens, temperature, top_k)
        readable = self.tokenizer
        assert isinstance(readable, Readable)
        texts = [_open(self.tokenizer.encode([prompt])[0].tolist(), self._family, self._sep) for prompt in prompts]
        for prompt, ids in zip(prompts, texts, strict=True):
            room = self.max_length - 2 - len(ids)
            if tokens > room:
                raise UserError(
                    f"--tokens {tokens}: {self.name} reads {self.max_length - 2} tokens at most, and the prompt "
                    f"{prompt[:40]!r} has {len(ids)}.",
                    f"Ask for {room} or fewer." if room > 0 else "Give a shorter prompt.",
                )
        draws = [np.random.default_rng([seed, place]) for place in range(len(texts))]
        going = list(range(len(texts)))
        for _ in range(tokens):
            if not going:
                break
            logits_BV = self._logits([texts[place] for place in going])
            for place, logits_V in zip(tuple(going), logits_BV, strict=True):
                token = _drawn(logits_V, temperature, top_k, draws[place])
                if self._ends(texts[place], token):
                    going.remove(place)
                else:
                    texts[place].append(token)
        return [
            Written(readable.readable(ids), tuple(ids), ended=place not in going) for place, ids in enumerate(texts)
        ]

    @property
    def _family(self) -> ModelFamily:
        return family_of(self.model.config)

    @property
    def _sep(self) -> int:
        return self.tokenizer.vocabulary.sep

    def _ends(self, ids: list[int], token: int) -> bool:
        """Whether a token ends the text. Of bytes the end of a patch does, where a patch would begin."""
        if token != self._sep:
            return False
        return self._family.units != "byte" or not ids or ids[-1] == self._sep

    @torch.inference_mode()
    def _logits(self, texts: list[list[int]]) -> NDArray[np.float64]:
        """(B, V) of the token that follows each text; -inf for what is never written."""
        vocabulary = self.tokenizer.vocabulary
        ragged = Ragged.from_lists(texts)
        pack = self._family.packer(self.model.config, self.device)
        packed = pack(ragged, np.arange(len(ragged)), vocabulary, self.max_length)
        rows_B = torch.from_numpy(packed.layout.first_rows().numpy() + ragged.lengths)
        queries = Queries.of(packed.layout, rows_B)
        logits_BV = self.model.logits(
            packed.ids_R.to(self.device), packed.layout.to(self.device), queries.to(self.device)
        )
        found: NDArray[np.float64] = logits_BV.double().cpu().numpy()
        never = [token for token in vocabulary.special_ids if token != self._sep and token < found.shape[1]]
        found[:, never] = -np.inf
        return found


def _open(ids: list[int], family: ModelFamily, sep: int) -> list[int]:
    """A prompt of bytes without the end of its last patch, which the model may go on with."""
    return ids[:-1] if family.units == "byte" and ids and ids[-1] == sep else ids


def _check(tokens: int, temperature: float, top_k: int | None) -> None:
    if tokens < 1:
        raise UserError(f"--tokens {tokens}: at least one.", "Leave it out, or ask for more.")
    if not 0 <= temperature < float("inf"):
        raise UserError(f"--temperature {temperature}: a number from 0.", "0 always takes the likeliest token.")
    if top_k is not None and top_k < 1:
        raise UserError(f"--top-k {top_k}: at least one.", "Leave it out to draw from all tokens.")


def _drawn(logits_V: NDArray[np.float64], temperature: float, top_k: int | None, draw: np.random.Generator) -> int:
    """One token; the draw takes one number from the generator whatever the temperature."""
    at = draw.random()
    if temperature == 0:
        return int(logits_V.argmax())
    order = np.argsort(-logits_V, kind="stable")[:top_k]
    weights = np.exp((logits_V[order] - logits_V[order[0]]) / temperature)
    return int(order[min(np.searchsorted(np.cumsum(weights), at * weights.sum(), side="right"), len(order) - 1)])
