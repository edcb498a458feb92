"""Make the input of `python -m benchmarks.gpu`: a bundle with tokenised text and tasks, and the steps to train.

    TLM_DATA_ROOT=/path/to/data python -m benchmarks.gpu.prepare FOLDER
    python -m benchmarks.gpu.prepare FOLDER --scale toy        # from installed docstrings, to try the script with

The data stages are those of any study, and so are the steps' keys: what comes back is what a study would have made.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu.study import STUDIES, paper
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.bundle import export_bundle
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan
from tlm.sequential import prepare

TRAINED = ("pretrain", "finetune")


def make_bundle(folder: Path, scale: str, *, home: str, sizes: tuple[int, ...] = ()) -> str:
    """Run the data stages in `home` and write the bundle; says how large it is. Raises UserError."""
    study = paper(sizes) if scale == "paper" else STUDIES[scale]()
    runtime = Runtime.from_environment(home=home, isolate=False, workers=1)
    planned = plan(study, runtime.data_root, precision="bfloat16" if scale == "paper" else None)
    prepare(planned, runtime, stages=TRAINED)
    made = export_bundle(planned, ArtifactStore(runtime.artifacts), folder, stages=TRAINED)
    return f"{made.folder}: {len(made.steps)} steps to train, {made.inputs} inputs, {made.bytes / 2**20:.1f} MiB"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.prepare", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="the bundle, which must not be there yet")
    parser.add_argument("--scale", choices=sorted(STUDIES), default="paper")
    parser.add_argument("--sizes", type=int, nargs="*", default=[], metavar="WS", help="further pre-training sets")
    parser.add_argument("--home", help="where the data stages keep what they make (default: a temporary folder)")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as aside:
            print(make_bundle(given.folder, given.scale, home=given.home or aside, sizes=tuple(given.sizes)))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
