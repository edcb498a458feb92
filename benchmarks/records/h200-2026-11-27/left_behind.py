"""Say in the records of an archive that weights were left behind, as `python -m benchmarks.gpu` itself has since then.

    python left_behind.py 0-artifacts.tar artifacts.tar.xz

At 654e5dd its records listed `model.safetensors` of the pre-training, which was not in the archive, and of fine-tunings
nothing at all. Only records change, and of them only `outputs`, `left_behind` and their own digest.
"""

import io
import sys
import tarfile

from tlm.artifacts.record import RECORD, from_file, leaving, to_file
from tlm.stages import STAGES


def rewritten(content: bytes) -> bytes:
    """A record that says what its `provenance.weights` says. Raises KeyError for one without, NoRecord for a bad one."""
    record = from_file(content)
    assert record.provenance["weights"] in ("left on the machine that trained", "not kept")
    weights = STAGES[record.stage].weights
    record = leaving(record, weights)
    return to_file(record.model_copy(update={"left_behind": {**dict.fromkeys(weights), **record.left_behind}}))


def main(source: str, target: str) -> None:
    with tarfile.open(source) as given, tarfile.open(target, "w:xz") as made:
        for member in given:
            content = (given.extractfile(member) or io.BytesIO()).read()
            if member.name.endswith(f"/{RECORD}"):
                content = rewritten(content)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))


main(*sys.argv[1:])
