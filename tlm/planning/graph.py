"""How a study's stages hang together: a pure function from a study to its stages. Nothing is read here, nothing runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tlm.stages import (
    Baseline,
    Committee,
    Corpus,
    Duplicates,
    Finetune,
    Inject,
    Latency,
    Mix,
    Overlap,
    Pretrain,
    Report,
    Shuffle,
    Source,
    Stage,
    Task,
    Tokenizer,
    Tokens,
)
from tlm.stages.duplicates import NGRAM
from tlm.stages.evaluating import Models, evaluations
from tlm.stages.latency import BATCH_SIZES, REPEATS
from tlm.stages.pretraining_set import PretrainingSet
from tlm.study.architecture import Architecture
from tlm.study.config import CommitteeConfig, StudyConfig
from tlm.study.families import FAMILIES
from tlm.study.treatments import Foreign, MissingTokens, Removal, Sampled, Shuffled, Treatment

Identify = Callable[[Any], dict[str, Any]]
"""A source's or tokenizer's configuration → what identifies its content."""


def graph(study: StudyConfig, identify: Identify) -> list[Stage]:
    """Every stage of a study, each once and after its inputs; the last one is the report.

    Two ways to the same work lead to one stage: the first way names it.
    """
    stages = in_order(_wanted(study, identify))
    labels = {stage.step.key: dict(stage.step.labels) for stage in stages}
    return [*stages, Report(study=study, steps=tuple(stages), step_labels=labels)]


def in_order(wanted: Iterable[Stage]) -> list[Stage]:
    """These stages and all that they are made from, inputs first, those with the same key once."""
    found: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.step.key not in found:
            for given in stage.inputs().values():
                add(given)
            found[stage.step.key] = stage

    for stage in wanted:
        add(stage)
    return list(found.values())


def _wanted(study: StudyConfig, identify: Identify) -> Iterator[Stage]:
    data = prepare(study, identify)
    yield from data.stages()
    runs = Runs(data)
    yield from runs.stages()
    yield from committees(study, runs)
    yield from evaluations(runs.models())
    for name in study.baselines:
        for task in data.tasks.values():
            yield Baseline(task=task, source=task.source, baseline=name)


# --- text, tokens, pre-training sets ---


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
                yield self._overlap(corpus, name)
                if self._may_hold_test_items(corpus):
                    task, tokens = self.tasks[name], self.task_tokens[name]
                    yield Duplicates(corpus=corpus, task=task, task_tokens=tokens, ngram=NGRAM)

    def _overlap(self, corpus: PretrainingSet, task: str) -> Overlap:
        tokens = self.task_tokens[task]
        return Overlap(corpus=corpus, task=self.tasks[task], task_tokens=tokens, tokenizer=self.tokenizer)

    def _may_hold_test_items(self, corpus: PretrainingSet) -> bool:
        """Foreign text may; of the plain sets the largest holds all that the smaller ones do."""
        return isinstance(corpus, Mix) or (corpus.treated is None and corpus.ws == max(self.study.corpus.sizes))


def prepare(study: StudyConfig, identify: Identify) -> Data:
    """The study's text as tokens, its tasks, and its pre-training sets."""

    def read(source: Any) -> Source:
        return Source(content=identify(source), source=source)

    text = read(study.corpus.source)
    trained_on = text if study.tokenizer.trained else None
    tokenizer = Tokenizer(content=identify(study.tokenizer), tokenizer=study.tokenizer, source=trained_on)

    def tokenised(text: Source) -> Tokens:
        return Tokens(tokenizer=tokenizer, source=text, max_length=study.max_length)

    tasks = {
        config.name: Task(source=read(config.source), selection=config.selection, task=config.name)
        for config in study.tasks
    }
    task_tokens = {name: tokenised(task.source) for name, task in tasks.items()}
    data = Data(study, tokenised(text), tasks, task_tokens, {})
    for ws in study.corpus.sizes:
        if ws:
            data.sets[set_name(ws)] = _sample(data, ws)
    for treatment in study.treatments:
        treat = TREATMENTS[type(treatment)]
        data.sets[set_name(treatment.ws, treatment)] = treat(data, treatment, lambda source: tokenised(read(source)))
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


# --- models ---


class Runs:
    """Every model of a study: pre-trained on each set, fine-tuned on each task, and fine-tuned from scratch."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.study = data.study
        self._of: dict[tuple[str, str, str], list[Finetune]] = {}
        self._in_order = [*self._pretrained(), *self._from_scratch()]

    def stages(self) -> Iterator[Stage]:
        yield from self._in_order

    def models(self) -> Models:
        """All of them, for whatever evaluates them."""
        pretrained = tuple(stage for stage in self._in_order if isinstance(stage, Pretrain))
        finetuned = tuple(stage for stage in self._in_order if isinstance(stage, Finetune))
        return Models(self.study, self.data.tokenizer, pretrained, finetuned)

    def of(self, name: str, task: str, arch: str) -> list[Finetune]:
        """The fine-tunings that may be members of a committee, one for each pair of seeds. The set ws0 is scratch."""
        return self._of.get((name, task, arch), [])

    def _pretrained(self) -> Iterator[Stage]:
        study = self.study
        for name, corpus in self.data.sets.items():
            chosen = study.treatment_architectures if corpus.treated else None
            for arch in study.architectures:
                if chosen is not None and arch.name not in chosen:
                    continue
                for seed in study.pretrain_seeds:
                    pretrained = self._pretrain(corpus, arch, seed)
                    yield pretrained
                    for task in self.data.tasks_of(corpus):
                        yield from self._finetune(name, task, arch, study.finetune_seeds_of(seed), pretrained)

    def _from_scratch(self) -> Iterator[Stage]:
        for arch in self.study.architectures:
            for task in self.data.tasks:
                yield from self._finetune(set_name(0), task, arch, self.study.scratch_seeds)

    def _pretrain(self, corpus: PretrainingSet, arch: Architecture, seed: int) -> Pretrain:
        config = self.study.pretrain.of_family(FAMILIES[arch.kind])
        rate = self.study.learning_rates.get(arch.name, config.learning_rate)
        return Pretrain(
            corpus=corpus,
            tokenizer=self.data.tokenizer,
            architecture=arch,
            pretrain=config.model_copy(update={"learning_rate": rate}),
            max_length=self.study.max_length,
            seed=seed,
        )

    def _finetune(
        self, name: str, task: str, arch: Architecture, seeds: Iterable[int], pretrained: Pretrain | None = None
    ) -> Iterator[Finetune]:
        config = self.study.finetune
        rate = self.study.finetune_learning_rates.get(arch.name, config.learning_rate)
        for seed in seeds:
            run = Finetune(
                task=self.data.tasks[task],
                tokens=self.data.task_tokens[task],
                tokenizer=self.data.tokenizer,
                architecture=arch,
                finetune=config.model_copy(update={"learning_rate": rate}),
                max_length=self.study.max_length,
                seed=seed,
                pretrained=pretrained,
            )
            if seed in self.study.finetune_seeds:
                self._of.setdefault((name, task, arch.name), []).append(run)
            yield run


# --- evaluation ---


def committees(study: StudyConfig, runs: Runs) -> Iterator[Stage]:
    """Each committee on each task at each Ws; beside their accuracy stands the cost of an answer, by architecture."""
    for committee in study.committees:
        for task in runs.data.tasks:
            for ws in study.corpus.sizes:
                members = _members(committee, set_name(ws), task, runs)
                yield Committee(members=members, committee=committee.name, task=task, ws=ws)
    if study.committees:
        task = study.tasks[0].name
        for arch in study.architectures:
            yield Latency(
                model=runs.of(set_name(max(study.corpus.sizes)), task, arch.name)[0],
                task=runs.data.tasks[task],
                tokens=runs.data.task_tokens[task],
                tokenizer=runs.data.tokenizer,
                batch_sizes=BATCH_SIZES,
                repeats=REPEATS,
            )


def _members(committee: CommitteeConfig, name: str, task: str, runs: Runs) -> tuple[Finetune, ...]:
    """Its runs, architecture by architecture for the first seed, then for the next: the first n are mixed for any n."""
    by_architecture = [runs.of(name, task, member) for member in committee.members]
    return tuple(run for of_a_seed in zip(*by_architecture, strict=True) for run in of_a_seed)
