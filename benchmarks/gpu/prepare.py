"""Make the input of `python -m benchmarks.gpu`: a bundle with tokenised text and tasks, and the steps to train.

    TLM_DATA_ROOT=/path/to/data python -m benchmarks.gpu.prepare FOLDER
    python -m benchmarks.gpu.prepare FOLDER --scale committee  # one-layer models against six layers, on one Ws
    python -m benchmarks.gpu.prepare FOLDER --scale decoders   # those of arXiv 2405.14159, over a vocabulary, over bytes
    python -m benchmarks.gpu.prepare FOLDER --scale toy        # from installed docstrings, to try the script with
    python -m benchmarks.gpu.prepare --study gpu.yaml          # the same study as a file, for `tlm run`

The data stages are those of any study, and so are the steps' keys: what comes back is what a study would have made. After
`tlm import`, `tlm run gpu.yaml` makes what does not train, and the report; `--tasks` and `--seeds` leave out of the file
what was not trained there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from pydantic import ValidationError

from benchmarks.gpu.study import STUDIES
from flows.loading import to_yaml
from tlm.artifacts.record import first_fault
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.bundle import export_bundle
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan
from tlm.sequential import prepare
from tlm.study.adapt import with_precision
from tlm.study.config import StudyConfig

TRAINED = ("pretrain", "finetune")


def study_of(scale: str, sizes: tuple[int, ...] = ()) -> StudyConfig:
    """A study by its name; all but the toy are of the paper's scale and in the precision of a GPU."""
    made = STUDIES[scale](sizes)
    return made if scale.startswith("toy") else with_precision(made, "bfloat16")


def part_of(study: StudyConfig, tasks: tuple[str, ...] = (), seeds: tuple[int, ...] = ()) -> StudyConfig:
    """Some tasks and fine-tuning seeds of a study (default: all), named by its tasks. Raises UserError for unknown ones."""
    unknown = sorted({*tasks} - {task.name for task in study.tasks}) + sorted({*seeds} - {*study.finetune_seeds})
    if unknown:
        raise UserError(
            f"The study {study.name} has no {', '.join(map(str, unknown))}.", "Choose of its tasks and seeds."
        )
    chosen = tuple(task for task in study.tasks if task.name in tasks) if tasks else study.tasks
    name = "-".join((study.name, *(task.name for task in chosen))) if tasks else study.name
    fields = {"name": name, "tasks": chosen, "finetune_seeds": seeds or study.finetune_seeds}
    return StudyConfig.model_validate(study.model_copy(update=fields).model_dump())


def make_bundle(folder: Path, scale: str, *, home: str, sizes: tuple[int, ...] = ()) -> str:
    """Run the data stages in `home` and write the bundle; says how large it is. Raises UserError."""
    runtime = Runtime.from_environment(home=home, isolate=False, workers=1)
    planned = plan(study_of(scale, sizes), runtime.data_root)
    prepare(planned, runtime, stages=TRAINED)
    made = export_bundle(planned, ArtifactStore(runtime.artifacts), folder, stages=TRAINED)
    return f"{made.folder}: {len(made.steps)} steps to train, {made.inputs} inputs, {made.bytes / 2**20:.1f} MiB"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.prepare", description=(__doc__ or "").split("\n")[0]
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", type=Path, nargs="?", help="the bundle, which must not be there yet")
    what.add_argument("--study", type=Path, metavar="FILE", help="write the study itself, as YAML, and no bundle")
    parser.add_argument("--tasks", nargs="+", default=[], help="of --study: only these")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="of --study: only these of fine-tuning")
    parser.add_argument("--scale", choices=sorted(STUDIES), default="paper")
    parser.add_argument("--sizes", type=int, nargs="*", default=[], metavar="WS", help="further pre-training sets")
    parser.add_argument("--home", help="where the data stages keep what they make (default: a temporary folder)")
    given = parser.parse_args()
    try:
        if given.study:
            study = study_of(given.scale, tuple(given.sizes))
            text = to_yaml(part_of(study, tuple(given.tasks), tuple(given.seeds)))
            given.study.write_text(text, encoding="utf-8")
            return 0
        with tempfile.TemporaryDirectory() as aside:
            print(make_bundle(given.folder, given.scale, home=given.home or aside, sizes=tuple(given.sizes)))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except ValidationError as error:
        sys.stderr.write(f"error: --sizes: {first_fault(error)}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
