"""What a study trains and measures on: its text as tokens, its tasks, its pre-training sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tlm.stages import Corpus, Duplicates, Inject, Mix, Overlap, Shuffle, Source, Stage, Task, Tokenizer, Tokens
from tlm.stages.pretraining_set import PretrainingSet
from tlm.study.config import StudyConfig
from tlm.study.treatments import Foreign, MissingTokens, Removal, Sampled, Shuffled, Treatment

Identify = Callable[[Any], dict[str, Any]]
"""A source's or tokenizer's configuration → what identifies its content."""


@dataclass(frozen=True)
class Data:
    """What a study trains and measures on."""

    study: StudyConfig
    tokens: Tokens
    """Of the study's own source."""
    tasks: dict[str, Task]
    task_tokens: dict[str, Tokens]
    """By task, as `tasks` is."""
    sets: dict[str, PretrainingSet]
    """Pre-training sets by name (`set_name`)."""

    @property
    def tokenizer(self) -> Tokenizer:
        return self.tokens.tokenizer

    def tasks_of(self, corpus: PretrainingSet) -> list[str]:
        """The tasks that a pre-training set is measured against: one, if its treatment was about it."""
        treated = corpus.treated
        return [treated.task] if treated and treated.task else list(self.tasks)

    def stages(self) -> Iterator[Stage]:
        yield self.tokens.source
        yield self.tokens
        for name, task in self.tasks.items():
            yield task
            yield self.task_tokens[name]
        yield from self.sets.values()
        for corpus in self.sets.values():
            for name in self.tasks_of(corpus):
                if self.study.tokenizer.units == "subword":  # all texts have the same bytes
                    yield self._overlap(corpus, name)
                if self._may_hold_test_items(corpus):
                    task, tokens = self.tasks[name], self.task_tokens[name]
                    yield Duplicates(corpus=corpus, task=task, task_tokens=tokens, ngram=self.study.tokenizer.ngram)

    def _overlap(self, corpus: PretrainingSet, task: str) -> Overlap:
        tokens = self.task_tokens[task]
        return Overlap(corpus=corpus, task=self.tasks[task], task_tokens=tokens, tokenizer=self.tokenizer)

    def _may_hold_test_items(self, corpus: PretrainingSet) -> bool:
        """Foreign text may; of the plain sets the largest holds all that the smaller ones do."""
        return isinstance(corpus, Mix) or (corpus.treated is None and corpus.ws == max(self.study.corpus.sizes))


def prepare(study: StudyConfig, identify: Identify, *, test_items: bool = True) -> Data:
    """The study's text as tokens, its tasks (without test items, if so asked), and its pre-training sets."""

    def read(source: Any) -> Source:
        return Source(content=identify(source), source=source)

    text = read(study.corpus.source)
    trained_on = text if study.tokenizer.trained else None
    tokenizer = Tokenizer(content=identify(study.tokenizer), tokenizer=study.tokenizer, source=trained_on)

    def tokenised(text: Source, whole: bool = False) -> Tokens:
        return Tokens(tokenizer=tokenizer, source=text, max_length=None if whole else study.max_length)

    tasks = {
        config.name: Task(
            source=read(config.source), selection=config.selection, task=config.name, test_items=test_items
        )
        for config in study.tasks
    }
    task_tokens = {name: tokenised(task.source) for name, task in tasks.items()}
    packed = study.pretrain.packing
    data = Data(study, tokenised(text, packed), tasks, task_tokens, {})
    for ws in study.corpus.sizes:
        if ws:
            data.sets[set_name(ws)] = _sample(data, ws)
    for treatment in study.treatments:
        treat = TREATMENTS[type(treatment)]
        data.sets[set_name(treatment.ws, treatment)] = treat(
            data, treatment, lambda source: tokenised(read(source), packed)
        )
    return data


def _sample(data: Data, ws: int, **more: Any) -> Corpus:
    corpus = data.study.corpus
    own = {"heldout": corpus.heldout, "sampler": corpus.sampler, "seed": corpus.seed}
    return Corpus(tokens=data.tokens, ws=ws, **{**own, **more})


def _sampled(data: Data, treatment: Sampled, tokenised: Callable[[Any], Tokens]) -> Corpus:
    return _sample(
        data,
        treatment.ws,
        sampler=treatment.sampler,
        level=treatment.level,
        task=data.tasks[treatment.task],
        task_tokens=data.task_tokens[treatment.task],
        tokenizer=data.tokenizer,
        treated=treatment,
    )


def _inject(data: Data, treatment: MissingTokens, tokenised: Callable[[Any], Tokens]) -> Inject:
    return Inject(
        corpus=_plain(data, treatment.ws),
        corpus_tokens=data.tokens,
        task=data.tasks[treatment.task],
        task_tokens=data.task_tokens[treatment.task],
        tokenizer=data.tokenizer,
        removal=Removal.model_validate(treatment.model_dump(include=set(Removal.model_fields))),
        treated=treatment,
    )


def _shuffle(data: Data, treatment: Shuffled, tokenised: Callable[[Any], Tokens]) -> Shuffle:
    corpus = _plain(data, treatment.ws)
    return Shuffle(
        corpus=corpus, tokenizer=data.tokenizer, scope=treatment.scope, seed=treatment.seed, treated=treatment
    )


def _mix(data: Data, treatment: Foreign, tokenised: Callable[[Any], Tokens]) -> Mix:
    return Mix(
        tokens=data.tokens,
        foreign=tokenised(treatment.source),
        own=treatment.own,
        general=treatment.general,
        heldout=data.study.corpus.heldout,
        seed=data.study.corpus.seed,
        treated=treatment,
    )


TREATMENTS: dict[type, Callable[..., PretrainingSet]] = {
    Sampled: _sampled,
    MissingTokens: _inject,
    Shuffled: _shuffle,
    Foreign: _mix,
}
"""A treatment's model → the function of (data, treatment, source → tokens) that makes the stage of its pre-training set."""


def _plain(data: Data, ws: int) -> Corpus:
    """The untreated sample of size Ws."""
    corpus = data.sets[set_name(ws)]
    assert isinstance(corpus, Corpus)
    return corpus


def set_name(ws: int, treatment: Treatment | None = None) -> str:
    """How this module names a pre-training set: `ws2000`, or `ws2000-fewrel-random-unk-500-s0` with a treatment."""
    if treatment is None:
        return f"ws{ws}"
    parts = [f"ws{ws}", treatment.task, treatment.label, f"s{getattr(treatment, 'seed', 0)}"]
    return "-".join(part for part in parts if part)
