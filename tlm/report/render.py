"""Writes report.html (self-contained), its twin report.md, and plots/*.png."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from tlm.report import likelihood, tables
from tlm.report.comparison import HOW_TO_READ, HOW_VERDICTS_FALL, difference_text
from tlm.report.drawing import Plot
from tlm.report.evidence import Evidence
from tlm.report.findings import Findings
from tlm.report.formatting import NOT_AVAILABLE, Table, corpus_label, escape_markdown, markdown_table
from tlm.report.marts import estimate, rows
from tlm.report.plots import all_plots
from tlm.report.saved import PLOTS_FOLDER, plot_file
from tlm.study.config import StudyConfig

if TYPE_CHECKING:
    from tlm.artifacts.marts import Connection


@dataclass(frozen=True)
class Section:
    """A heading with a sentence or two, tables and plots."""

    anchor: str
    title: str
    text: str
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)


def render(
    evidence: Evidence, findings: Findings, out: Path, *, provenance: dict[str, Any], mlflow_url: str
) -> dict[str, Any]:
    """Write the report of a study into the folder `out`; the same records give the same bytes.

    Args:
        evidence: the study's records.
        findings: the answer to the question that the study's analysis asks; empty if it asks none.
        out: the folder; it is made if it is not there.
        provenance: of the code that writes the report (`tlm.artifacts.provenance.provenance`).
        mlflow_url: where the links lead; without MLflow run ids in the records there are none.

    Returns:
        How much there was to report: results, verdicts, plots, whether runs were tracked, seconds of compute.
    """
    study = evidence.study
    plots = all_plots(evidence)
    header = _header(evidence.connection, study, provenance)
    environment = Environment(
        loader=PackageLoader("tlm.report", ""),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["markdown_table"] = lambda table: markdown_table(table, mlflow_url)
    environment.globals["plot_file"] = plot_file
    environment.filters["md"] = lambda text: escape_markdown(str(text))
    values = {
        "title": study.title or study.name,
        "study": study,
        "header": header,
        "how_to_read": HOW_TO_READ,
        "gaps": _gaps_in_words(evidence),
        "sections": [*_answer(findings), *_sections(evidence, plots), *_likelihood(evidence.connection)],
        "mlflow_url": mlflow_url,
        "has_links": header["tracked"],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / PLOTS_FOLDER).mkdir(exist_ok=True)
    every = [plot for group in plots.values() for plot in group] + findings.plots
    drawn = [plot for plot in every if plot.draw]
    for plot in drawn:
        (out / plot_file(plot)).write_bytes(plot.png)
    for name in ("report.html", "report.md"):
        (out / name).write_text(environment.get_template(f"{name}.j2").render(values), encoding="utf-8")
    return {
        "results": header["results"],
        "verdicts": len(findings.verdicts),
        "decided": sum(verdict.decided for verdict in findings.verdicts),
        "plots": len(drawn),
        "tracked": header["tracked"],
        "compute_seconds": header["seconds"],
    }


def _header(connection: Connection, study: StudyConfig, provenance: dict[str, Any]) -> dict[str, Any]:
    stages = rows(
        connection,
        """select stage, count(*) as artifacts, sum(seconds) as seconds, count_if(without_weights) as without
        from runs group by 1 order by min(created), 1""",
    )
    commits = rows(
        connection,
        "select git_commit, bool_or(git_dirty) as dirty from runs where git_commit is not null group by 1 order by 1",
    )
    counts = rows(
        connection, "select count(*) as runs, count(mlflow_run_id) as tracked, max(created) as latest from runs"
    )[0]
    devices = rows(
        connection,
        """select distinct coalesce(device, 'cpu') as device from runs
        where role in ('pretrains', 'predicts') and arch is not null order by 1""",
    )
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
        "setup": [*_setup(study), ("Trained on", ", ".join(row["device"] for row in devices) or NOT_AVAILABLE)],
    }


def _setup(study: StudyConfig) -> list[tuple[str, str]]:
    length = study.pretrain
    return [
        *([("Scale", study.scale)] if study.scale else []),
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


def _gaps_in_words(evidence: Evidence) -> list[str]:
    """One sentence for each task and architecture: the largest Ws against scratch."""
    study, found = evidence.study, []
    ws = max(study.corpus.sizes)
    for task in study.tasks:
        for arch in study.architectures:
            row = evidence.gaps.find(task=task.name, kind="finetune", system=arch.name, ws=ws, treatment=None)
            gap = estimate(row, "gap")
            if row is not None and gap is not None:
                found.append(
                    f"{task.name}, {arch.name}: {100 * row['scratch_accuracy']:.1f} % from scratch, "
                    f"{100 * row['accuracy']:.1f} % pre-trained on {corpus_label(ws, None)} paragraphs, "
                    f"a gap in points of {difference_text(gap)}."
                )
    return found


def _answer(findings: Findings) -> list[Section]:
    """The section of verdicts; none if the study asks nothing."""
    if not findings.verdicts:
        return []
    return [
        Section(
            "answer",
            "Verdicts",
            " ".join(
                ["What this study says to each claim and question, at its scale.", HOW_VERDICTS_FALL, *findings.notes]
            ),
            [tables.verdict_table(findings.verdicts), *findings.tables],
            findings.plots,
        )
    ]


def _sections(evidence: Evidence, plots: dict[str, list[Plot]]) -> list[Section]:
    connection = evidence.connection
    tasks = [task.name for task in evidence.study.tasks]
    return [
        Section(
            "results",
            "Results",
            "Test accuracy in percent. Ws is the number of paragraphs in the pre-training set; at Ws = 0 the same "
            "architecture is trained from scratch. Baselines have no seed, do not depend on Ws and stand in every row; a "
            f"whole committee is one, as one seed is.{not_measured(connection)}",
            [tables.results_table(evidence, task) for task in tasks],
            plots["results"],
        ),
        Section(
            "gap",
            "Gap over scratch",
            "Accuracy minus that of the same system from scratch, in points.",
            [tables.gap_table(evidence, task) for task in tasks],
        ),
        Section(
            "text",
            "Text",
            "Unknown words are those that the tokenizer replaces by [UNK]: models see a hole, and overlap leaves them out. "
            "Invisible texts (zero-width characters alone) were left out; a text without a token is in no pre-training "
            "set.",
            [tables.texts_table(connection)],
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
            [tables.missing_table(evidence), tables.missing_tokens_table(connection)],
            plots["missing"],
        ),
        Section(
            "pretraining",
            "Pre-training",
            "Loss, accuracy and bits a byte are those of text that no sample holds.",
            [tables.parameters_table(evidence), tables.pretraining_table(connection)],
            plots["pretraining"],
        ),
        Section(
            "committees",
            "Committees",
            "Soft: mean of the members' softmax outputs; logit: mean of their log-probabilities; vote: majority.",
            [tables.committee_table(evidence)],
            plots["committee"],
        ),
        Section(
            "paper",
            "Beside the paper",
            "Known of arXiv 2507.14871: the accuracies of its Table 8 on FewRel, and from Table 3 that Ws = 90,000 "
            "reaches 50 to 90 % of the largest gap. Everything else is n/a. Scale, data and seeds "
            "differ here.",
            [tables.paper_table(evidence)],
        ),
    ]


def _likelihood(connection: Connection) -> list[Section]:
    """The section of evaluations by likelihood; none if the study asks for none."""
    found = likelihood.likelihood_tables(connection)
    return [Section("likelihood", "Options by likelihood", likelihood.HOW_TO_READ, found)] if found else []


def not_measured(connection: Connection) -> str:
    """Which baselines could not be fitted, and why, in a sentence; empty if all were."""
    found = rows(
        connection,
        """select concat(baseline, ' on ', task, ' (', facts ->> 'not_measured', ')') as said from runs
        where facts ->> 'not_measured' is not null order by task, baseline""",
    )
    return f" Not measured: {'; '.join(row['said'] for row in found)}." if found else ""


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
