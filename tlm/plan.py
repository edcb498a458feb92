"""From a study to its steps: the one place where stages are wired together.

The plan is complete before anything runs. It knows every step's key, so it can say what would run and what is cached, and
needs neither torch nor Prefect to say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from tlm import sources
from tlm.config import Architecture, InjectionConfig, StudyConfig, TaskConfig, slugify, with_precision
from tlm.errors import UserError
from tlm.precision import Resolved, native_precision
from tlm.source_config import Source
from tlm.steps import Label, Step
from tlm.tokenizer import tokenizer_identity


@dataclass(frozen=True)
class Plan:
    """A study's steps, each after its inputs. The last one is the report."""

    study: StudyConfig
    steps: tuple[Step, ...]

    @property
    def report(self) -> Step:
        return self.steps[-1]

    def below(self, keys: Iterable[str]) -> list[Step]:
        """The steps with these keys and every step that depends on them."""
        reached = set(keys)
        found = []
        for step in self.steps:
            if step.key in reached or reached & set(step.input_keys.values()):
                reached.add(step.key)
                found.append(step)
        return found


def plan(study: StudyConfig, data_root: str, *, precision: Resolved | None = None) -> Plan:
    """Wire `study`. Reads only what identifies its sources (digests, versions).

    Args:
        precision: what "auto" means (`Runtime.native_precision`); by default what it means on this processor.

    Raises:
        UserError: if source or vocabulary files are missing, naming all of them.
    """
    study = with_precision(study, precision or native_precision("cpu"))
    _check_files(study, data_root)
    wiring = _Wiring(study, data_root)
    wiring.data()
    wiring.models()
    wiring.committees()
    wiring.baselines()
    wiring.report()
    return Plan(study, tuple(wiring.steps.values()))


@dataclass
class _Wiring:
    study: StudyConfig
    data_root: str
    steps: dict[str, Step] = field(default_factory=dict)
    tasks: dict[str, Step] = field(default_factory=dict)
    task_tokens: dict[str, Step] = field(default_factory=dict)
    task_texts: dict[str, Step] = field(default_factory=dict)
    finetuned: dict[tuple[str, str, str], list[Step]] = field(default_factory=dict)
    """(corpus name, task, architecture) → its runs, over seeds."""

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
        for injection in study.injections:
            self.corpora[corpus_name(injection.ws, injection)] = self.inject(injection)
        for corpus in self.corpora.values():
            for task in study.tasks:
                self.overlap(corpus, task.name)

    def tokens(self, text: Step) -> Step:
        config = {"max_length": self.study.max_length}
        return self.add("tokens", config, {"tokenizer": self.tokenizer, "source": text}, text.slug)

    def task(self, task: TaskConfig, text: Step) -> Step:
        config = task.selection.model_dump(mode="json")
        return self.add("task", config, {"source": text}, task.name, {"task": task.name})

    def corpus(self, ws: int) -> Step:
        corpus = self.study.corpus
        config = {"ws": ws, **corpus.model_dump(mode="json", include={"heldout", "sampler", "seed"})}
        labels: dict[str, Label] = {"ws": ws, "corpus_seed": corpus.seed, "injection": None}
        return self.add("corpus", config, {"tokens": self.corpus_tokens}, f"ws{ws}-s{corpus.seed}", labels)

    def inject(self, injection: InjectionConfig) -> Step:
        config = injection.model_dump(mode="json", exclude={"task", "ws"})
        labels: dict[str, Label] = {
            "ws": injection.ws,
            "corpus_seed": self.study.corpus.seed,
            "injection": injection.label,
            "injected_task": injection.task,
        }
        inputs = {
            "corpus": self.corpora[corpus_name(injection.ws)],
            "corpus_tokens": self.corpus_tokens,
            "task": self.tasks[injection.task],
            "task_tokens": self.task_tokens[injection.task],
            "tokenizer": self.tokenizer,
        }
        slug = f"ws{injection.ws}-{injection.task}-{injection.label}-s{injection.seed}"
        return self.add("inject", config, inputs, slug, labels)

    def overlap(self, corpus: Step, task: str) -> Step:
        inputs = {
            "corpus": corpus,
            "task": self.tasks[task],
            "task_tokens": self.task_tokens[task],
            "tokenizer": self.tokenizer,
        }
        return self.add("overlap", {}, inputs, f"{task}-{corpus.slug}", {**corpus.labels, "task": task})

    # --- models ---

    def models(self) -> None:
        study = self.study
        for name, corpus in self.corpora.items():
            injected = corpus.stage == "inject"
            chosen = study.injection_architectures if injected else None
            for arch in study.architectures:
                if chosen is not None and arch.name not in chosen:
                    continue
                for seed in study.pretrain_seeds:
                    pretrained = self.pretrain(corpus, arch, seed)
                    names = [str(corpus.labels["injected_task"])] if injected else [t.name for t in study.tasks]
                    for task_name in names:
                        self.finetune(name, task_name, arch, pretrained)
        if 0 in study.corpus.sizes:
            for arch in study.architectures:
                for task in study.tasks:
                    self.finetune(corpus_name(0), task.name, arch, None)

    def pretrain(self, corpus: Step, arch: Architecture, seed: int) -> Step:
        config = {
            "architecture": arch.model_dump(mode="json", exclude={"name"}),
            "pretrain": self.study.pretrain.model_dump(mode="json"),
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
            labels = {"ws": 0, "arch": arch.name, "injection": None, "init": "scratch"}
            start = f"{arch.name}-scratch"
        for seed in self.study.finetune_seeds:
            config = {
                "architecture": arch.model_dump(mode="json", exclude={"name"}),
                "finetune": self.study.finetune.model_dump(mode="json"),
                "max_length": self.study.max_length,
                "seed": seed,
            }
            more: dict[str, Label] = {**labels, "task": task, "finetune_seed": seed}
            step = self.add("finetune", config, inputs, f"{task}-{start}-f{seed}", more)
            self.finetuned.setdefault((corpus, task, arch.name), []).append(step)

    # --- evaluation ---

    def committees(self) -> None:
        for committee in self.study.committees:
            for task in self.study.tasks:
                for ws in self.study.corpus.sizes:
                    runs = [
                        run
                        for member in committee.members
                        for run in self.finetuned.get((corpus_name(ws), task.name, member), [])
                    ]
                    members = {f"member_{index:03d}": run for index, run in enumerate(runs)}
                    labels: dict[str, Label] = {
                        "ws": ws,
                        "injection": None,
                        "task": task.name,
                        "committee": committee.name,
                        "init": "pretrained" if ws else "scratch",
                    }
                    self.add("committee", {}, members, f"{task.name}-{committee.name}-{corpus_name(ws)}", labels)

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


def corpus_name(ws: int, injection: InjectionConfig | None = None) -> str:
    """How this module names a pre-training set: `ws2000`, or `ws2000-fewrel-random-unk-500-s0` after an injection."""
    if injection is None:
        return f"ws{ws}"
    return f"ws{ws}-{injection.task}-{injection.label}-s{injection.seed}"


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


def _check_files(study: StudyConfig, data_root: str) -> None:
    """Identify every source and the tokenizer, so that one error names all that is missing, not just the first."""
    errors: list[UserError] = []
    identify = [partial(sources.identity, source) for source in (study.corpus.source, *(t.source for t in study.tasks))]
    identify.append(partial(tokenizer_identity, study.tokenizer))
    for call in identify:
        try:
            call(data_root)
        except UserError as error:
            errors.append(error)
    if errors:
        problems = list(dict.fromkeys(error.problem for error in errors))
        raise UserError(" ".join(problems), errors[0].way_out)
