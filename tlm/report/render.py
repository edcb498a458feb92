"""Writes report.html (self-contained), its twin report.md, and plots/*.png."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from tlm.report import tables
from tlm.report.cells import NOT_AVAILABLE, Table, corpus_label, escape_markdown, markdown_table, signed
from tlm.report.data import Gaps, rows
from tlm.report.drawing import Plot
from tlm.report.plots import all_plots
from tlm.study.config import StudyConfig

if TYPE_CHECKING:
    from tlm.artifacts.catalogue import Connection
    from tlm.report.findings import Findings


@dataclass(frozen=True)
class Section:
    """A heading with a sentence or two, tables and plots."""

    anchor: str
    title: str
    text: str
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)


def render(
    connection: Connection,
    study: StudyConfig,
    out: Path,
    *,
    provenance: dict[str, Any],
    mlflow_url: str,
    findings: Findings | None = None,
) -> dict[str, Any]:
    """Write the report of `study` into the folder `out`; the same records give the same bytes.

    Args:
        connection: from `tlm.artifacts.catalogue.build_memory`, over the study's records.
        provenance: of the code that writes the report (`tlm.artifacts.provenance.provenance`).
        mlflow_url: where the links lead; without MLflow run ids in the records there are none.
        findings: the answer to the question that the study's analysis asks, if it names one.

    Returns:
        How much there was to report: results, plots, whether runs were tracked, seconds of compute.
    """
    gaps = Gaps(connection)
    plots = all_plots(connection, gaps, study)
    header = _header(connection, study, provenance)
    environment = Environment(
        loader=PackageLoader("tlm.report", ""),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["markdown_table"] = lambda table: markdown_table(table, mlflow_url)
    environment.filters["md"] = lambda text: escape_markdown(str(text))
    values = {
        "title": study.title or study.name,
        "study": study,
        "header": header,
        "findings": _findings(gaps, study),
        "sections": [*_answer(findings), *_sections(connection, gaps, study, plots)],
        "mlflow_url": mlflow_url,
        "has_links": header["tracked"],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "plots").mkdir(exist_ok=True)
    every = [plot for group in plots.values() for plot in group] + (findings.plots if findings else [])
    drawn = [plot for plot in every if plot.png]
    for plot in drawn:
        (out / "plots" / f"{plot.name}.png").write_bytes(plot.png)
    for name in ("report.html", "report.md"):
        (out / name).write_text(environment.get_template(f"{name}.j2").render(values), encoding="utf-8")
    return {
        "results": header["results"],
        "plots": len(drawn),
        "tracked": header["tracked"],
        "compute_seconds": header["seconds"],
    }


def _header(connection: Connection, study: StudyConfig, provenance: dict[str, Any]) -> dict[str, Any]:
    stages = rows(
        connection,
        "select stage, count(*) as artifacts, sum(seconds) as seconds from runs group by 1 order by min(created), 1",
    )
    commits = rows(
        connection,
        "select git_commit, bool_or(git_dirty) as dirty from runs where git_commit is not null group by 1 order by 1",
    )
    counts = rows(
        connection, "select count(*) as runs, count(mlflow_run_id) as tracked, max(created) as latest from runs"
    )[0]
    packages = {name: version for name, version in provenance.get("packages", {}).items() if version}
    seconds = round(sum(stage["seconds"] for stage in stages), 1)
    return {
        "stages": stages,
        "seconds": seconds,
        "time": _duration(seconds),
        "results": rows(connection, "select count(*) as n from results")[0]["n"],
        "commits": [f"{c['git_commit'][:12]}{' (with uncommitted changes)' if c['dirty'] else ''}" for c in commits],
        "report_commit": (provenance.get("git_commit") or NOT_AVAILABLE)[:12],
        "python": provenance.get("python", NOT_AVAILABLE),
        "system": provenance.get("system", NOT_AVAILABLE),
        "packages": ", ".join(f"{name} {version}" for name, version in sorted(packages.items())),
        "latest": counts["latest"].isoformat(sep=" ", timespec="minutes") if counts["latest"] else NOT_AVAILABLE,
        "tracked": counts["tracked"] > 0,
        "partly_tracked": 0 < counts["tracked"] < counts["runs"],
        "setup": _setup(study),
    }


def _setup(study: StudyConfig) -> list[tuple[str, str]]:
    length = study.pretrain
    return [
        ("Pre-training sets", f"Ws {', '.join(f'{ws:,}' for ws in study.corpus.sizes)} of {study.corpus.source.kind}"),
        ("Tasks", ", ".join(task.name for task in study.tasks)),
        ("Architectures", ", ".join(arch.name for arch in study.architectures)),
        ("Pre-training", f"{length.steps:,} steps" if length.steps else f"{length.epochs} epochs"),
        ("Fine-tuning", f"{study.finetune.epochs} epoch{'s' if study.finetune.epochs > 1 else ''}"),
        ("Seeds", _seeds(study)),
    ]


def _seeds(study: StudyConfig) -> str:
    by = "×" if study.seeds == "crossed" else "each with one of"
    scratch = f"; {len(study.scratch_seeds)} from scratch" if study.scratch_seeds else ""
    return f"{len(study.pretrain_seeds)} pre-training {by} {len(study.finetune_seeds)} fine-tuning{scratch}"


def _findings(gaps: Gaps, study: StudyConfig) -> list[str]:
    """One sentence for each task: the largest Ws against scratch, over the architectures."""
    found = []
    for task in study.tasks:
        ws = max(study.corpus.sizes)
        for arch in study.architectures:
            row = gaps.find(task=task.name, kind="finetune", system=arch.name, ws=ws, treatment=None)
            if row is None or row["gap"] is None:
                continue
            verdict = "" if row["resolved"] else " — not resolved"
            found.append(
                f"{task.name}, {arch.name}: {100 * row['scratch_accuracy']:.1f} % from scratch, "
                f"{100 * row['accuracy']:.1f} % pre-trained on {corpus_label(ws, None)} paragraphs: "
                f"{signed(100 * row['gap'])} points (SE {100 * row['gap_error']:.1f}){verdict}."
            )
    return found


def _answer(findings: Findings | None) -> list[Section]:
    if findings is None:
        return []
    return [
        Section(
            "answer",
            "Verdicts",
            " ".join(["What this study says to each claim and question, at its scale.", *findings.notes]),
            [tables.verdict_table(findings.verdicts), *findings.tables],
            findings.plots,
        )
    ]


def _sections(connection: Connection, gaps: Gaps, study: StudyConfig, plots: dict[str, list[Plot]]) -> list[Section]:
    tasks = [task.name for task in study.tasks]
    return [
        Section(
            "results",
            "Results",
            "Test accuracy in percent. Ws is the number of paragraphs in the pre-training set; at Ws = 0 the same "
            "architecture is trained from scratch. With two or more seeds: mean ± half-width of the 95 % confidence "
            "interval over seeds (Student's t). With one: ± 95 % binomial half-width from the number of test items, "
            "which knows nothing of seeds. Baselines do not depend on Ws and stand in every row.",
            [tables.results_table(gaps, study, task) for task in tasks],
            plots["results"],
        ),
        Section(
            "gain",
            "Gain over scratch",
            "Accuracy minus that of the same system from scratch, in points, with its standard error: for each side "
            "the larger of the binomial one and the one over seeds. A difference within two standard errors is not "
            "resolved.",
            [tables.gap_table(gaps, study, task) for task in tasks],
        ),
        Section(
            "overlap",
            "Token overlap",
            "Types are distinct tokens of the vocabulary, special tokens left out. Type overlap is the share of the "
            "task's types that the pre-training set holds; occurrence overlap weighs each by its occurrences "
            "in the task.",
            [tables.overlap_table(connection)],
        ),
        Section(
            "missing",
            "Missing tokens",
            "At fixed Ws, some of the task's tokens were removed from the pre-training set. The paper's Table 4 "
            "reports lower accuracy with more missing tokens.",
            [tables.missing_table(connection, gaps), tables.missing_tokens_table(connection)],
            plots["missing"],
        ),
        Section(
            "pretraining",
            "Pre-training",
            "Masked language modelling. Loss and accuracy are those of masked positions in text that no sample holds.",
            [tables.pretraining_table(connection)],
            plots["pretraining"],
        ),
        Section(
            "committees",
            "Committees",
            "Soft: mean of the members' softmax outputs; logit: mean of their log-probabilities; vote: majority.",
            [tables.committee_table(connection, gaps, study)],
            plots["committee"],
        ),
        Section(
            "paper",
            "Beside the paper",
            "Known of arXiv 2507.14871: the accuracies of its Table 8 on FewRel, and from Table 3 that Ws = 90,000 "
            "reaches 50 to 90 % of the largest gain of pre-training. Everything else is n/a. Scale, data and seeds "
            "differ here.",
            [tables.paper_table(gaps, study)],
        ),
    ]


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
