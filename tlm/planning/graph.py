"""How a study's stages hang together: a pure function from a study to its stages. Nothing is read here, nothing runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby

from tlm.planning.data import Data, Identify, prepare, set_name
from tlm.stages import Baseline, Committee, Finetune, Latency, PpmiSvd, Pretrain, Report, Soup, Stage, Teacher
from tlm.stages.evaluating import Models, evaluations
from tlm.stages.latency import BATCH_SIZES, REPEATS
from tlm.stages.pretraining_set import PretrainingSet
from tlm.study.architecture import Architecture
from tlm.study.config import CommitteeConfig, StudyConfig
from tlm.study.families import FAMILIES


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
    arms = [Runs(prepare(own, identify), arm, steps) for arm, steps, own in study.in_arms()]
    runs = Runs(data)
    compared = arms or [runs]
    evaluated = in_order(stage for each in compared for stage in evaluations(each.models(identify)))
    yield from (stage for stage in evaluated if not _trained(stage))  # what is wrong with their data is found first
    for each in compared:
        yield from each.stages()
    yield from committees(study, runs)
    yield from soups(study, runs)
    yield from evaluated
    for name in study.baselines:
        for task in data.tasks.values():
            yield Baseline(task=task, source=task.source, baseline=name)


def _trained(stage: Stage) -> bool:
    """Whether it, or anything that it is made from, runs in torch."""
    return stage.trains or any(_trained(given) for given in stage.inputs().values())


# --- models ---


class Runs:
    """Every model of a study: pre-trained on each set; fine-tuned from that, from word vectors, from scratch."""

    def __init__(self, data: Data, arm: str | None = None, budget: int | None = None) -> None:
        """Of one of a study's arms, `data` is that of the study as this arm has it."""
        self.data, self.arm, self.budget = data, arm, budget
        self.study = data.study
        self._of: dict[tuple[str, str, str], list[Finetune]] = {}
        self._in_order = [*self._pretrained(), *self._from_vectors(), *self._from_scratch()]
        self._in_order += self._students()

    def stages(self) -> Iterator[Stage]:
        yield from self._in_order

    def models(self, identify: Identify) -> Models:
        """All of them, for whatever evaluates them."""
        pretrained = tuple(stage for stage in self._in_order if isinstance(stage, Pretrain))
        finetuned = tuple(stage for stage in self._in_order if isinstance(stage, Finetune))
        return Models(self.study, self.data.tokenizer, pretrained, finetuned, identify)

    def of(self, name: str, task: str, arch: str) -> list[Finetune]:
        """The fine-tunings that may be members of a committee, one for each pair of seeds. The set ws0 is scratch."""
        return self._of.get((name, task, arch), [])

    def _pretrained(self) -> Iterator[Stage]:
        for name, corpus, arch in self._pairs():
            for seed in self.study.pretrain_seeds:
                pretrained = self._pretrain(corpus, arch, seed)
                yield pretrained
                for task in self.data.tasks_of(corpus):
                    for run in self._finetune(task, arch, self.study.finetune_seeds_of(seed), pretrained=pretrained):
                        self._of.setdefault((name, task, arch.name), []).append(run)
                        yield run

    def _pairs(self) -> Iterator[tuple[str, PretrainingSet, Architecture]]:
        """(a set's name, the set, an architecture) of every set and those that are trained on it."""
        treated = self.study.treatment_architectures
        for name, corpus in self.data.sets.items():
            for arch in self.study.architectures:
                if corpus.treated is None:
                    trained = corpus.ws in self.study.sizes_of(arch.name)
                else:
                    trained = treated is None or arch.name in treated
                if trained:
                    yield name, corpus, arch

    def _from_vectors(self) -> Iterator[Stage]:
        """What is fine-tuned from a set's word vectors and nothing else: in no committee."""
        for _, corpus, arch in self._pairs() if self.study.svd_arm else ():
            for task in self.data.tasks_of(corpus):
                seeds, vectors = self.study.finetune_seeds, self._vectors(corpus, arch)
                yield from self._finetune(task, arch, seeds, embeddings=vectors)

    def _from_scratch(self) -> Iterator[Stage]:
        for arch in self.study.architectures:
            for task in self.data.tasks:
                for run in self._finetune(task, arch, self.study.scratch_seeds):
                    if run.seed in self.study.finetune_seeds:
                        self._of.setdefault((set_name(0), task, arch.name), []).append(run)
                    yield run

    def _students(self) -> Iterator[Stage]:
        """The twin of every fine-tuning of a student's architecture, taught by the members that have its seeds."""
        asked = self.study.distillation
        if asked is None:
            return
        committee = next(each for each in self.study.committees if each.name == asked.teacher)
        for arch in asked.students:
            for ws in self.study.sizes_of(arch, *committee.members):
                for task in self.data.tasks:
                    by_seeds = zip(*(self.of(set_name(ws), task, name) for name in committee.members), strict=True)
                    for twin, members in zip(self.of(set_name(ws), task, arch), by_seeds, strict=True):
                        teacher = Teacher(
                            members=members,
                            task=twin.task,
                            tokens=twin.tokens,
                            tokenizer=twin.tokenizer,
                            committee=committee.name,
                        )
                        yield replace(twin, teacher=teacher, distillation=asked.loss)

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
            initialization=self.study.initialization,
            embeddings=self._vectors(corpus, arch) if config.embedding_init == "ppmi_svd" else None,
            arm=self.arm,
            budget=self.budget,
        )

    def _vectors(self, corpus: PretrainingSet, arch: Architecture) -> PpmiSvd:
        """Word vectors of a set, as wide as an architecture."""
        return PpmiSvd(
            corpus=corpus,
            tokenizer=self.data.tokenizer,
            dimensions=arch.hidden_size,
            settings=self.study.ppmi_svd,
        )

    def _finetune(
        self,
        task: str,
        arch: Architecture,
        seeds: Iterable[int],
        pretrained: Pretrain | None = None,
        embeddings: PpmiSvd | None = None,
    ) -> Iterator[Finetune]:
        config = self.study.finetune
        rate = self.study.finetune_learning_rates.get(arch.name, config.learning_rate)
        for seed in seeds:
            yield Finetune(
                task=self.data.tasks[task],
                tokens=self.data.task_tokens[task],
                tokenizer=self.data.tokenizer,
                architecture=arch,
                finetune=config.model_copy(update={"learning_rate": rate}),
                max_length=self.study.max_length,
                seed=seed,
                initialization=self.study.initialization,
                pretrained=pretrained,
                embeddings=embeddings,
                arm=self.arm,
            )


# --- evaluation ---


def committees(study: StudyConfig, runs: Runs) -> Iterator[Stage]:
    """Each committee on each task at each Ws; beside their accuracy stands the cost of an answer, by architecture."""
    for committee in study.committees:
        for task in runs.data.tasks:
            for ws in study.sizes_of(*committee.members):
                members = _members(committee, set_name(ws), task, runs)
                yield Committee(members=members, committee=committee.name, task=task, ws=ws)
    if study.committees and study.latency:
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


def soups(study: StudyConfig, runs: Runs) -> Iterator[Stage]:
    """Of each architecture that is asked for, the mean of each pre-trained model's fine-tunings on a task."""
    for arch in study.soups:
        for task in runs.data.tasks:
            for ws in filter(None, study.corpus.sizes):
                for _, members in groupby(runs.of(set_name(ws), task, arch), key=lambda run: run.pretrained):
                    yield Soup.of_members(tuple(members))


def _members(committee: CommitteeConfig, name: str, task: str, runs: Runs) -> tuple[Finetune, ...]:
    """Its runs, architecture by architecture for the first seed, then for the next: the first n are mixed for any n."""
    by_architecture = [runs.of(name, task, member) for member in committee.members]
    return tuple(run for of_a_seed in zip(*by_architecture, strict=True) for run in of_a_seed)
