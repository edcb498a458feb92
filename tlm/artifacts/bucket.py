"""Artifacts in an object store (S3 and its kin), where several machines make them at once.

The outputs of each attempt to make an artifact lie under a prefix of their own, `<stage>/<slug>-<key12>/<attempt>/`, and
its record, `<stage>/<slug>-<key12>/record.json`, is written last, if none is there. Who was slower finds the record of who
was faster. Without a record there is no artifact, whatever else lies there. Nothing is remembered of what others may
change: every question is asked anew, many of them at once by one listing.
"""

from __future__ import annotations

import errno
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tlm.artifacts import asked_once, fetched
from tlm.artifacts.fingerprint import SHORT, file_digest
from tlm.artifacts.lease import leased, machine_of
from tlm.artifacts.left_over import LEASES, MIRRORED, left_over
from tlm.artifacts.listing import (
    DAMAGED,
    SOUND,
    Glance,
    Info,
    checksum,
    os_errors,
    outputs_of,
    sound_note,
)
from tlm.artifacts.mirror import mirrored
from tlm.artifacts.patience import Patient
from tlm.artifacts.probe import probe
from tlm.artifacts.record import RECORD, RECORD_BYTES, NoRecord, Record, Stored, from_file, to_file
from tlm.errors import Gone, UserError
from tlm.machine.places import home_of
from tlm.machine.printing import without_passwords

HONOURS = "SeaweedFS (4.48 was tried) and Amazon S3 do"
PAUSE_SECONDS = 0.05
"""After a refusal, before one looks: somebody else may be at it."""
REFUSALS = 10
"""How often in a row a file may be there when it is to be created, and be gone when it is looked at."""


class Bucket:
    """What a store asks of an object store. Paths are those of fsspec. Whatever goes wrong on the way is an OSError."""

    def __init__(self, url: str) -> None:
        """Raises UserError if nothing can be reached by such a URL."""
        import fsspec  # who has a folder does without

        self.url = url
        try:
            self.fs: Any
            self.root: str
            client, self.root = fsspec.url_to_fs(url, use_listings_cache=False)
            self.fs = Patient(client)
        except (ValueError, ImportError) as error:
            more = " For s3:// install the extra: pip install 'tlm[s3]'." if url.startswith("s3:") else ""
            problem = f"TLM_HOME={home_of(url)} cannot be reached: {without_passwords(str(error))}."
            raise UserError(problem, f"Point TLM_HOME at a folder.{more}") from error

    # --- reading ---

    def glance(self, places: Collection[str], *, afresh: bool = False) -> Glance:
        """What lies in these places, by one listing of each, and the records there.

        Args:
            afresh: to verify an output is to read it where it is, although it was fetched and verified before.
        """
        listed = {path: info for place in places for path, info in self._find(place).items()}
        return Glance(self, listed, afresh=afresh)

    def names(self, place: str) -> list[str]:
        """What lies in a folder. Raises OSError."""
        with os_errors(place):
            return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in self.fs.ls(place, detail=False)]

    def read(self, path: str, limit: int) -> bytes:
        """A file of at most `limit` bytes. Raises OSError."""
        with os_errors(path):
            content = bytes(self.fs.cat_file(path, end=limit + 1) if limit < RECORD_BYTES else self.fs.cat_file(path))
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", path)
        return content

    def at_hand(self, record: Record, name: str) -> Path | None:
        """Where an output can be opened, if it was fetched before."""
        path = fetched.place_of(record, name)
        return path if fetched.is_sound(path, record, name) else None

    def local(self, folder: str, record: Record, name: str) -> Path:
        """Where an output can be opened: it is fetched, unless it was, and verified. Raises Gone if it is not what its
        record says: it is then known to be damaged, by all."""
        if self.at_hand(record, name) is None:
            self.fetch([(folder, record, name)])
        if (path := self.at_hand(record, name)) is None:
            raise Gone(f"{record.ref} is damaged ({name} differs from the digest in its record).")
        return path

    def fetch(self, wanted: Sequence[tuple[str, Record, str]]) -> None:
        """Fetch outputs side by side. One that is not what its record says is noted beside it, and not kept."""
        remote = [f"{outputs_of(folder, record)}/{name}" for folder, record, name in wanted]
        local = [fetched.place_of(record, name) for _, record, name in wanted]
        arriving = [fetched.arriving(path) for path in local]
        try:
            with os_errors(self.root):
                self.fs.get(remote, [str(path) for path in arriving])
            for here, path, (folder, record, name) in zip(arriving, local, wanted, strict=True):
                if file_digest(here) == record.outputs[name].sha256:
                    here.replace(path)
                else:
                    self._note_damage(folder, record, name)
        finally:
            for here in arriving:
                here.unlink(missing_ok=True)
        fetched.tidy()

    def is_sound(self, folder: str, record: Record, name: str) -> bool:
        """Whether the store answers now with what the record says. If not, that is noted, for all."""
        path = f"{outputs_of(folder, record)}/{name}"
        with os_errors(path), self.fs.open(path, "rb", cache_type="readahead") as file:
            sound = file_digest(file) == record.outputs[name].sha256
        if not sound:
            self._note_damage(folder, record, name)
        return sound

    def note_sound(self, folder: str, record: Record, name: str, checksum: str) -> None:
        """Note, for all, that an output whose checksum has become another is still what its record says."""
        with suppress(OSError):  # who may not write there reads it again
            self.write(f"{outputs_of(folder, record)}/{sound_note(checksum, name)}", b"")

    def _note_damage(self, folder: str, record: Record, name: str) -> None:
        self.write(f"{outputs_of(folder, record)}/{DAMAGED}/{name}", b"")

    # --- writing ---

    def check_answers(self) -> None:
        """Ask once whether a server is there that lets us in. Later requests are patient: a study under way survives a
        store that is away for a minute.

        Raises:
            UserError: if not, saying why, which takes seconds.
        """
        if "s3" in self.fs.protocol:
            asked_once.ask(self.url, self.fs, self.root)

    def check_usable(self) -> None:
        """Try what correctness rests on, writing one object and removing it.

        Raises:
            UserError: if the store does not answer, cannot be written to, or does not honour conditional writes; if this
                user has no folder on this machine, or TLM_CACHE_GIB is no number.
        """
        fetched.own_folder()
        fetched.limit_bytes()
        self.check_answers()
        try:
            with probe(self) as place:
                first, second = self.create(place, b"first"), self.create(place, b"second")
                self.remove_file(place)
        except OSError as error:
            raise asked_once.unwritable(error, self.url, self.root) from error
        if not first or second:
            raise UserError(
                f"The object store of TLM_HOME={home_of(self.url)} does not honour conditional writes (If-None-Match): two "
                "machines would write over each other.",
                f"Use one that does: {HONOURS}.",
            )

    def create(self, path: str, content: bytes) -> bool:
        """Write a file that is not there. Returns whether it is this one that is there now."""
        for _ in range(REFUSALS):
            try:
                with os_errors(path):
                    self.fs.pipe_file(path, content, mode="create")
                return True
            except FileExistsError as error:
                refusal = error
                time.sleep(PAUSE_SECONDS)
            with suppress(FileNotFoundError):  # what was there has been removed meanwhile, and the way is free
                return self.read(path, RECORD_BYTES) == content  # asked again for an answer that was lost: it is
        raise refusal

    def write(self, path: str, content: bytes) -> None:
        """Write a small file, whole or not at all."""
        with os_errors(path):
            self.fs.pipe_file(path, content)

    def upload(self, record: Record, draft: Path, folder: str) -> Record:
        """Upload the outputs of a draft as a new attempt; return the record that says where they are."""
        attempt = uuid.uuid4().hex[: SHORT + 4]
        names = list(record.outputs)
        with os_errors(folder):
            if names:
                self.fs.put([str(draft / name) for name in names], [f"{folder}/{attempt}/{name}" for name in names])
        listed = self._find(f"{folder}/{attempt}")
        checksums = {name: checksum(listed.get(f"{folder}/{attempt}/{name}", {})) for name in names}
        for name in names:
            if listed.get(f"{folder}/{attempt}/{name}", {}).get("size") != record.outputs[name].bytes:
                raise OSError(errno.EIO, f"{name} did not arrive whole", folder)
        return record.model_copy(update={"stored": Stored(attempt=attempt, checksums=checksums)})

    def put_record(self, record: Record, folder: str) -> bool:
        """Write the record of what was uploaded, if there is none. Returns whether it is this one that is there now."""
        return self.create(f"{folder}/{RECORD}", to_file(record))

    def remove(self, path: str) -> None:
        """Remove an artifact, its record first, or a file. What others upload meanwhile stays."""
        try:
            record = from_file(self.read(f"{path}/{RECORD}", RECORD_BYTES))
        except (NoRecord, OSError):
            record = None
        self.remove_file(f"{path}/{RECORD}")
        if record is not None:
            self.remove_outputs(record, path)
        self.remove_file(path)

    def remove_outputs(self, record: Record, folder: str) -> None:
        """Remove the outputs of an attempt that is, or has become, no artifact."""
        place = outputs_of(folder, record)
        self.remove_files([f"{place}/{each}{name}" for name in record.outputs for each in ("", f"{DAMAGED}/")])
        self.remove_files([*self._find(f"{place}/{SOUND}")])

    def remove_file(self, path: str) -> None:
        self.remove_files([path])

    def remove_files(self, paths: Sequence[str]) -> None:
        """Remove files; it is no error if they are gone."""
        for path in paths:
            with os_errors(path), suppress(FileNotFoundError):
                self.fs.rm_file(path)

    # --- leases, checkpoints and what was cut short ---

    @contextmanager
    def lease(self, key: str, locks: Path) -> Iterator[None]:
        """Let one machine at a time make a key, as far as that can be had (`tlm.artifacts.lease`)."""
        with leased(self, f"{self.root}/{LEASES}/{key}", machine_of(locks)):
            yield

    @contextmanager
    def mirrored(self, key: str, checkpoints: Path) -> Iterator[None]:
        """Have checkpoints follow the store: whichever machine goes on does so from the last (`tlm.artifacts.mirror`)."""
        with mirrored(self.fs, f"{self.root}/{MIRRORED}/{key[:SHORT]}", checkpoints):
            yield

    def forget_checkpoints(self, key: str) -> None:
        self.remove_files([*self._find(f"{self.root}/{MIRRORED}/{key[:SHORT]}")])

    def left_over(self, needed: Iterable[str], hours: float) -> Mapping[str, int]:
        """Files that are part of no artifact and that nobody writes, by path, and their bytes (`tlm.artifacts.left_over`).

        Args:
            needed: the beginnings of the keys whose checkpoints are kept.
        """
        listed = self._find(self.root)
        seen = Glance(self, listed)
        seen.bring(seen.folders)
        parts: set[str] = set()
        for folder in seen.folders:
            try:
                record = seen.record(folder)
            except (NoRecord, OSError):  # nobody knows which files are its own: it may be whole
                parts |= {path for path in listed if path.startswith(f"{folder}/")}
                continue
            place = outputs_of(folder, record)
            for name in record.outputs:
                note = sound_note(checksum(listed.get(f"{place}/{name}", {})), name)
                parts |= {f"{place}/{each}" for each in (name, f"{DAMAGED}/{name}", note)}
        return left_over(listed, self.root, parts, needed, hours)

    def _find(self, place: str) -> dict[str, Info]:
        """Every file below a place, and what the listing says of it."""
        with os_errors(place):
            found = self.fs.find(place, detail=True)
        return {path: info for path, info in found.items() if info["type"] == "file"}
