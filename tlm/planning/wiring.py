"""How a study's steps hang together: the one place where stages are wired. Nothing is read here, nothing runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from tlm.artifacts.step import Label, Step
from tlm.data import sources
from tlm.data.tokenizer import tokenizer_identity
from tlm.study.architecture import Architecture
from tlm.study.base import slugify
from tlm.study.config import CommitteeConfig, StudyConfig, TaskConfig
from tlm.study.sources import Source
from tlm.study.treatments import Foreign, MissingTokens, Removal, Sampled, Shuffled, Treatment

NGRAM = 13
"""Tokens in a row that a task's item and a pre-training set must share to be called near-duplicates."""

REPEATS = 50
"""Times that a model's latency is measured."""


@dataclass
class Wiring:
    """The steps of a study, each added after its inputs. Two ways to the same work lead to one step."""

    study: StudyConfig
    data_root: str
    steps: dict[str, Step] = field(default_factory=dict)
    tasks: dict[str, Step] = field(default_factory=dict)
    task_tokens: dict[str, Step] = field(default_factory=dict)
    task_texts: dict[str, Step] = field(default_factory=dict)
    finetuned: dict[tuple[str, str, str], list[Step]] = field(default_factory=dict)
    """(corpus name, task, architecture) → its runs that may be members of a committee, over seeds."""

    def add(
        self,
        stage: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, Step],
        slug: str,
        labels: Mapping[str, Label] | None = None,
        access: Mapping[str, Any] | None = None,
    ) -> Step:
        step = Step(
            stage=stage,
            config=dict(config),
            inputs={name: given.ref for name, given in inputs.items()},
            slug=slugify(slug),
            labels=dict(labels or {}),
            access=dict(access or {}),
        )
        return self.steps.setdefault(step.key, step)

    # --- corpus, tokenizer, tasks, overlap ---

    def source(self, source: Source) -> Step:
        identity = sources.identity(source, self.data_root)
        return self.add("source", identity, {}, _source_slug(source), access={"source": source.model_dump(mode="json")})

    def data(self) -> None:
        study = self.study
        corpus_text = self.source(study.corpus.source)
        self.tokenizer = self.add(
            "tokenizer",
            tokenizer_identity(study.tokenizer, self.data_root),
            {"source": corpus_text} if study.tokenizer.kind == "wordpiece" else {},
            study.tokenizer.kind,
            access={"tokenizer": study.tokenizer.model_dump(mode="json")},
        )
        self.corpus_tokens = self.tokens(corpus_text)
        for task in study.tasks:
            text = self.source(task.source)
            self.task_texts[task.name] = text
            self.tasks[task.name] = self.task(task, text)
            self.task_tokens[task.name] = self.tokens(text)
        self.corpora: dict[str, Step] = {}
        for ws in study.corpus.sizes:
            if ws:
                self.corpora[corpus_name(ws)] = self.corpus(ws)
        for treatment in study.treatments:
            self.corpora[corpus_name(treatment.ws, treatment)] = self.treat(treatment)
        largest = max(study.corpus.sizes)
        for corpus in self.corpora.values():
            for task_name in self.tasks_of(corpus):
                self.overlap(corpus, task_name)
                if corpus.stage == "mix" or (corpus.labels["ws"], corpus.labels["treatment"]) == (largest, None):
                    self.duplicates(corpus, task_name)

    def tasks_of(self, corpus: Step) -> list[str]:
        """The tasks that a pre-training set is measured against: one, if its treatment was about it."""
        task = corpus.labels["treatment_task"]
        return [str(task)] if task else [t.name for t in self.study.tasks]

    def tokens(self, text: Step) -> Step:
        config = {"max_length": self.study.max_length}
        return self.add("tokens", config, {"tokenizer": self.tokenizer, "source": text}, text.slug)

    def task(self, task: TaskConfig, text: Step) -> Step:
        config = task.selection.model_dump(mode="json")
        return self.add("task", config, {"source": text}, task.name, {"task": task.name})

    def corpus(self, ws: int, sampled: Sampled | None = None) -> Step:
        corpus = self.study.corpus
        config = {"ws": ws, **corpus.model_dump(mode="json", include={"heldout", "sampler", "seed"})}
        inputs, slug = {"tokens": self.corpus_tokens}, f"ws{ws}-s{corpus.seed}"
        if sampled is not None:
            config |= {"sampler": sampled.sampler} | ({} if sampled.level is None else {"level": sampled.level})
            inputs |= {"task": self.tasks[sampled.task], "task_tokens": self.task_tokens[sampled.task]}
            inputs["tokenizer"] = self.tokenizer
            slug = f"ws{ws}-{sampled.task}-{sampled.label}-s{corpus.seed}"
        return self.add("corpus", config, inputs, slug, self.corpus_labels(ws, sampled))

    def corpus_labels(self, ws: int, treatment: Treatment | None) -> dict[str, Label]:
        return {
            "ws": ws,
            "corpus_seed": self.study.corpus.seed,
            "treatment": treatment.label if treatment else None,
            "treatment_task": treatment.task if treatment else None,
        }

    def treat(self, treatment: Treatment) -> Step:
        match treatment.kind:
            case "missing_tokens":
                return self.inject(treatment)
            case "sampled":
                return self.corpus(treatment.ws, treatment)
            case "shuffled":
                return self.shuffle(treatment)
            case "foreign":
                return self.mix(treatment)

    def inject(self, missing: MissingTokens) -> Step:
        inputs = {
            "corpus": self.corpora[corpus_name(missing.ws)],
            "corpus_tokens": self.corpus_tokens,
            "task": self.tasks[missing.task],
            "task_tokens": self.task_tokens[missing.task],
            "tokenizer": self.tokenizer,
        }
        config = missing.model_dump(mode="json", include=set(Removal.model_fields))
        slug = f"ws{missing.ws}-{missing.task}-{missing.label}-s{missing.seed}"
        return self.add("inject", config, inputs, slug, self.corpus_labels(missing.ws, missing))

    def shuffle(self, shuffled: Shuffled) -> Step:
        inputs = {"corpus": self.corpora[corpus_name(shuffled.ws)], "tokenizer": self.tokenizer}
        config = {"scope": shuffled.scope, "seed": shuffled.seed}
        slug = f"ws{shuffled.ws}-{shuffled.label}-s{shuffled.seed}"
        return self.add("shuffle", config, inputs, slug, self.corpus_labels(shuffled.ws, shuffled))

    def mix(self, foreign: Foreign) -> Step:
        corpus = self.study.corpus
        inputs = {"tokens": self.corpus_tokens, "foreign": self.tokens(self.source(foreign.source))}
        config = {
            "own": foreign.own,
            "general": foreign.general,
            **corpus.model_dump(mode="json", include={"heldout", "seed"}),
        }
        slug = f"ws{foreign.ws}-{foreign.name}-s{corpus.seed}"
        return self.add("mix", config, inputs, slug, self.corpus_labels(foreign.ws, foreign))

    def overlap(self, corpus: Step, task: str) -> Step:
        inputs = {
            "corpus": corpus,
            "task": self.tasks[task],
            "task_tokens": self.task_tokens[task],
            "tokenizer": self.tokenizer,
        }
        return self.add("overlap", {}, inputs, f"{task}-{corpus.slug}", {**corpus.labels, "task": task})

    def duplicates(self, corpus: Step, task: str) -> Step:
        inputs = {"corpus": corpus, "task": self.tasks[task], "task_tokens": self.task_tokens[task]}
        labels = {**corpus.labels, "task": task}
        return self.add("duplicates", {"ngram": NGRAM}, inputs, f"{task}-{corpus.slug}", labels)

    # --- models ---

    def models(self) -> None:
        study = self.study
        for name, corpus in self.corpora.items():
            chosen = study.treatment_architectures if corpus.labels["treatment"] else None
            for arch in study.architectures:
                if chosen is not None and arch.name not in chosen:
                    continue
                for seed in study.pretrain_seeds:
                    pretrained = self.pretrain(corpus, arch, seed)
                    for task_name in self.tasks_of(corpus):
                        self.finetune(name, task_name, arch, pretrained)
        if 0 in study.corpus.sizes:
            for arch in study.architectures:
                for task in study.tasks:
                    self.finetune(corpus_name(0), task.name, arch, None)

    def pretrain(self, corpus: Step, arch: Architecture, seed: int) -> Step:
        rate = self.study.learning_rates.get(arch.name, self.study.pretrain.learning_rate)
        config = {
            "architecture": arch.model_dump(mode="json", exclude={"name"}),
            "pretrain": {**self.study.pretrain.model_dump(mode="json"), "learning_rate": rate},
            "max_length": self.study.max_length,
            "seed": seed,
        }
        labels: dict[str, Label] = {**corpus.labels, "arch": arch.name, "pretrain_seed": seed}
        inputs = {"corpus": corpus, "tokenizer": self.tokenizer}
        return self.add("pretrain", config, inputs, f"{arch.name}-{corpus.slug}-p{seed}", labels)

    def finetune(self, corpus: str, task: str, arch: Architecture, pretrained: Step | None) -> None:
        inputs = {"task": self.tasks[task], "tokens": self.task_tokens[task], "tokenizer": self.tokenizer}
        if pretrained is not None:
            inputs["pretrained"] = pretrained
            labels: dict[str, Label] = {**pretrained.labels, "init": "pretrained"}
            start = pretrained.slug
        else:
            labels = {"ws": 0, "arch": arch.name, "treatment": None, "init": "scratch"}
            start = f"{arch.name}-scratch"
        rate = self.study.finetune_learning_rates.get(arch.name, self.study.finetune.learning_rate)
        for seed in self.finetune_seeds(pretrained):
            config = {
                "architecture": arch.model_dump(mode="json", exclude={"name"}),
                "finetune": {**self.study.finetune.model_dump(mode="json"), "learning_rate": rate},
                "max_length": self.study.max_length,
                "seed": seed,
            }
            more: dict[str, Label] = {**labels, "task": task, "finetune_seed": seed}
            step = self.add("finetune", config, inputs, f"{task}-{start}-f{seed}", more)
            if seed in self.study.finetune_seeds:
                self.finetuned.setdefault((corpus, task, arch.name), []).append(step)

    def finetune_seeds(self, pretrained: Step | None) -> tuple[int, ...]:
        study = self.study
        if pretrained is None:
            return study.scratch_seeds
        if study.seeds == "crossed":
            return study.finetune_seeds
        return (study.finetune_seeds[study.pretrain_seeds.index(int(str(pretrained.config["seed"])))],)

    # --- evaluation ---

    def committees(self) -> None:
        for committee in self.study.committees:
            for task in self.study.tasks:
                for ws in self.study.corpus.sizes:
                    runs = self.members(committee, corpus_name(ws), task.name)
                    members = {f"member_{index:03d}": run for index, run in enumerate(runs)}
                    labels: dict[str, Label] = {
                        "ws": ws,
                        "treatment": None,
                        "task": task.name,
                        "committee": committee.name,
                        "init": "pretrained" if ws else "scratch",
                    }
                    self.add("committee", {}, members, f"{task.name}-{committee.name}-{corpus_name(ws)}", labels)

        if self.study.committees:
            for arch in self.study.architectures:
                self.latency(arch, self.study.tasks[0].name)

    def latency(self, arch: Architecture, task: str) -> None:
        """How long a model of each architecture takes to answer: beside a committee's accuracy stands its cost."""
        model = self.finetuned[corpus_name(max(self.study.corpus.sizes)), task, arch.name][0]
        inputs = {
            "model": model,
            "task": self.tasks[task],
            "tokens": self.task_tokens[task],
            "tokenizer": self.tokenizer,
        }
        labels: dict[str, Label] = {"task": task, "arch": arch.name}
        self.add("latency", {"batch_sizes": [1, 64], "repeats": REPEATS}, inputs, f"{task}-{arch.name}", labels)

    def members(self, committee: CommitteeConfig, corpus: str, task: str) -> list[Step]:
        """Its runs, architecture by architecture for the first seed, then for the next: the first n are mixed for any n."""
        by_architecture = [self.finetuned.get((corpus, task, member), []) for member in committee.members]
        return [run for runs in zip(*by_architecture, strict=True) for run in runs]

    def baselines(self) -> None:
        for name in self.study.baselines:
            for task in self.study.tasks:
                inputs = {"task": self.tasks[task.name], "source": self.task_texts[task.name]}
                labels: dict[str, Label] = {"task": task.name, "baseline": name}
                self.add("baseline", {"baseline": name}, inputs, f"{task.name}-{name}", labels)

    def report(self) -> None:
        inputs = {f"{step.ref.stage}/{step.slug}-{step.key[:8]}": step for step in self.steps.values()}
        config = {"study": self.study.model_dump(mode="json")}
        # An artifact may have been made under other names (of architectures, tasks): the report uses this study's.
        access = {"labels": {step.key: step.labels for step in self.steps.values()}}
        self.add("report", config, inputs, self.study.name, {"study": self.study.name}, access)


def corpus_name(ws: int, treatment: Treatment | None = None) -> str:
    """How this module names a pre-training set: `ws2000`, or `ws2000-fewrel-random-unk-500-s0` with a treatment."""
    if treatment is None:
        return f"ws{ws}"
    parts = [f"ws{ws}", treatment.task, treatment.label, f"s{getattr(treatment, 'seed', 0)}"]
    return "-".join(part for part in parts if part)


def _source_slug(source: Source) -> str:
    """The kind and what tells two sources of one kind apart."""
    match source.kind:
        case "docstrings":
            return f"docstrings-{source.part}"
        case "few_rel":
            return f"few-rel-{PurePosixPath(source.file).stem}"
        case "files":
            return f"files-{PurePosixPath(source.path).stem}"
        case "hub":
            return f"hub-{source.repo}"
    return source.kind
