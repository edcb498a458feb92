"""What is found when an artifact is looked for: whole, missing, damaged, or not to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tlm.artifacts.record import Record
from tlm.artifacts.step import ArtifactRef
from tlm.errors import UserError
from tlm.machine.files import DAMAGE, reason


@dataclass(frozen=True)
class Inspection:
    """What the store holds under a key: `reason` says what is wrong with an artifact that is not complete.

    A damaged one is proven to be other than what was made, and is made again. An unreadable one may be whole (this process
    may not read it, or the disk does not answer): it is left alone.
    """

    status: Literal["complete", "missing", "damaged", "unreadable"]
    record: Record | None = None
    """None if there is none to be believed."""
    reason: str = ""

    def check_readable(self, ref: ArtifactRef) -> None:
        """Raise UserError if it is unreadable: to make `ref` anew would remove what may be whole."""
        if self.status == "unreadable":
            remedy = f"Make it readable, or remove it with `tlm invalidate {ref} --yes`."
            raise UserError(f"{ref} cannot be read: {self.reason}.", remedy)


def failed(name: str, error: OSError) -> Inspection:
    """Of an artifact whose file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return Inspection("damaged", reason=f"{name} is missing")
    return Inspection("damaged" if error.errno in DAMAGE else "unreadable", reason=f"{name}: {reason(error)}")
