"""The one door to the Hugging Face Hub: a reachability check that answers within 10 seconds, and a pinned load."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tlm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

RepoType = Literal["dataset", "model"]

# One attempt, and an end to it even where name resolution hangs, which no socket timeout covers.
REQUEST_TIMEOUT_SECONDS = 5.0
TOTAL_TIMEOUT_SECONDS = 8.0

_REMEDY = (
    "Check the network (or HF_ENDPOINT), use local data with origin: local and TLM_DATA_ROOT, "
    "or set HF_HUB_OFFLINE=1 if the files were downloaded before."
)
_REPO = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_SNAPSHOT = re.compile(r"/snapshots/([0-9a-f]{40})/")


def is_offline() -> bool:
    """True if HF_HUB_OFFLINE asks for locally cached files only."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}


def check_repo_id(repo: str) -> None:
    """Raises UserError unless `repo` is a Hub id; `load_dataset` would read a local folder of that name instead."""
    if not _REPO.match(repo) or os.path.exists(repo):
        raise UserError(
            f"{repo!r} is not the id of a Hub repository, or is a local folder here.",
            "Give owner/name, or use `kind: files` for local data.",
        )


def ensure_reachable(repo: str, revision: str, repo_type: RepoType = "dataset") -> str | None:
    """The commit that `revision` of a Hub repository is now; None under HF_HUB_OFFLINE=1, where nothing is asked.

    Honours HF_ENDPOINT. Takes less than 10 seconds whatever the network does.

    Raises:
        UserError: the Hub does not answer, or has no such repository or revision, or access to it is restricted.
    """
    if is_offline():
        return None
    check_repo_id(repo)
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise UserError(
            "huggingface_hub is not installed, so the Hub cannot be read.", "Install it, or use local data."
        ) from error

    def ask() -> str | None:
        api = HfApi(endpoint=endpoint)
        info = api.repo_info(repo, revision=revision, repo_type=repo_type, timeout=REQUEST_TIMEOUT_SECONDS)
        return info.sha

    where = endpoint or "huggingface.co"
    try:
        return _within(ask, TOTAL_TIMEOUT_SECONDS)
    except GatedRepoError as error:
        raise UserError(f"{repo} on {where} needs its terms accepted.", "Accept them there and log in.") from error
    except RevisionNotFoundError as error:
        raise UserError(f"{repo} on {where} has no revision {revision!r}.", "Give a commit, tag or branch.") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{where} has no {repo_type} {repo!r} (or it is private).", "Check its name, or log in."
        ) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise UserError(f"{where} answered {status} for {repo}.", _REMEDY) from error
    except Exception as error:  # the HTTP library's own errors differ between versions of huggingface_hub
        raise UserError(f"{where} cannot be reached for {repo} ({_reason(error)}).", _REMEDY) from error


def _within(ask: Callable[[], str | None], seconds: float) -> str | None:
    """What `ask` returns or raises; TimeoutError after `seconds`, leaving its daemon thread behind."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = ask()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True, name="tlm-hub-check")
    thread.start()
    thread.join(seconds)
    if "error" in outcome:
        raise outcome["error"]
    if "value" not in outcome:
        raise TimeoutError(f"no answer in {seconds:g} s")
    value: str | None = outcome["value"]
    return value


def load(
    repo: str,
    revision: str,
    *,
    split: str,
    config: str | None = None,
    data_files: list[str] | None = None,
) -> tuple[pa.Table, dict[str, tuple[str, ...]], str]:
    """One split of a Hub dataset at a pinned revision.

    Args:
        data_files: paths in the repository, for a few files out of many; `split` is then always "train".
    Returns:
        The rows, the names of each ClassLabel column, and the commit that was read.
    Raises:
        UserError: `datasets` missing, Hub unreachable, nothing cached when offline, no such configuration or split, or
            rows of another revision than the pinned one.
    """
    check_repo_id(repo)
    commit = ensure_reachable(repo, revision)
    dataset, read = (
        _load_files(repo, revision, data_files) if data_files else _load(repo, commit or revision, config, split)
    )
    expected = commit or (revision if _COMMIT.match(revision) else None)
    # When a connection fails midway, or offline, a library may take the newest it ever cached, of any revision.
    if len(read) != 1 or (expected and read != {expected}):
        raise UserError(
            f"The cached rows of {repo} are of revision {', '.join(sorted(read)) or 'unknown'}, not of {revision}.",
            "Connect once without HF_HUB_OFFLINE to fetch the pinned revision.",
        )
    names = {name: tuple(f.names) for name, f in (dataset.features or {}).items() if hasattr(f, "names")}
    return dataset.data.table, names, next(iter(read))


def _load_files(repo: str, revision: str, data_files: list[str]) -> tuple[Any, set[str]]:
    """The rows of some Parquet files of a repository, and the commits they are of.

    `load_dataset(repo, data_files=...)` does not find its own cache again when offline (datasets 5.2); the files' own
    cache is looked up by revision, so they are fetched first.
    """
    places = [_download(repo, revision, file) for file in data_files]
    what = f"{', '.join(data_files)} of {repo} at {revision}"
    dataset = _load_dataset(what, "parquet", data_files={"train": places}, split="train")
    return dataset, {match[1] for place in places if (match := _SNAPSHOT.search(Path(place).as_posix()))}


def _load(repo: str, revision: str, config: str | None, split: str) -> tuple[Any, set[str]]:
    """A split of a whole dataset, and the commits it was prepared from: they name the folders of its cache."""
    what = f"{' '.join(filter(None, (config, split)))} of {repo} at {revision}"
    dataset = _load_dataset(what, repo, name=config, split=split, revision=revision, keep_in_memory=False)
    return dataset, {Path(file["filename"]).parent.name for file in dataset.cache_files}


def _download(repo: str, revision: str, file: str) -> str:
    """The local place of one file. Tests put local folders in a repository's layout here."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return str(hf_hub_download(repo, file, repo_type="dataset", revision=revision))
    except LocalEntryNotFoundError as error:
        raise UserError(f"{file} of {repo} at {revision} is not among the cached files.", _not_cached()) from error
    except EntryNotFoundError as error:
        raise UserError(f"{repo} at {revision} has no file {file}.", "Check the revision.") from error
    except (HfHubHTTPError, OSError) as error:
        raise UserError(f"Cannot download {file} of {repo}: {_reason(error)}", _REMEDY) from error


def _load_dataset(what: str, path: str, **arguments: Any) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError("datasets is not installed: no Hub data.", "Install it, or use local data.") from error
    try:
        return datasets.load_dataset(path, **arguments)
    except (ValueError, OSError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"Cannot load {what}: {_reason(error)}", _not_cached()) from error


def _not_cached() -> str:
    return "Unset HF_HUB_OFFLINE once, so that the data is downloaded and kept." if is_offline() else _REMEDY


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
