"""An object store that cannot serve is refused with its cause, and with the home as it was given."""

from __future__ import annotations

import errno
import os
import socket
import uuid
from importlib.util import find_spec
from pathlib import Path

import pytest
from artifacts.bucket.helping import bucket_of

from tlm.artifacts.asked_once import unanswered, unwritable
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.runtime import Runtime

HOME = "s3://lab/tlm"
ARTIFACTS = Runtime(home=HOME).artifacts


class Answered(Exception):
    """As botocore raises what a server answers."""

    def __init__(self, status: int, code: str) -> None:
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}


def as_s3fs_raises(error: OSError, status: int, code: str) -> OSError:
    error.__cause__ = Answered(status, code)
    return error


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_denies_access_is_refused_with_what_it_says(status: int) -> None:
    told = unanswered(as_s3fs_raises(PermissionError("No such key."), status, "InvalidAccessKeyId"), ARTIFACTS)
    assert str(told) == (
        "TLM_HOME=s3://lab/tlm: the object store denies access to the list of its files (InvalidAccessKeyId: No such key). "
        "Look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they give access to."
    )


@pytest.mark.parametrize("status", [400, 405])
def test_a_server_that_takes_no_such_question_is_refused_with_what_may_be_set_wrong(status: int) -> None:
    told = unanswered(as_s3fs_raises(OSError(errno.EIO, "expecting 'eu-central-1'"), status, "Malformed"), ARTIFACTS)
    assert str(told) == (
        f"TLM_HOME=s3://lab/tlm: the object store refuses to list files ({status}, Malformed: expecting 'eu-central-1'). "
        "Look at AWS_REGION and the credentials, and whether AWS_ENDPOINT_URL is an object store's."
    )


def test_no_password_is_told() -> None:
    told = unanswered(
        ValueError("Invalid endpoint: http://me:hushhush@host:x"), "s3://KEY:hushhush@lab/tlm/data/artifacts"
    )
    assert told is not None and "hushhush" not in str(told)
    assert str(told).startswith(
        "TLM_HOME=s3://lab/tlm: the object store cannot be asked (Invalid endpoint: http://host:x)."
    )


@pytest.mark.parametrize(("status", "code"), [(404, "NoSuchBucket"), (301, "PermanentRedirect"), (503, "SlowDown")])
def test_a_server_that_may_answer_otherwise_later_is_there(status: int, code: str) -> None:
    assert unanswered(as_s3fs_raises(OSError(errno.EIO, "Later"), status, code), ARTIFACTS) is None


def test_a_bucket_that_is_not_there_is_no_matter_of_writing() -> None:
    missing = OSError(errno.ENOENT, "The specified bucket does not exist", "lab/tlm/data/artifacts/.probe")
    assert str(unwritable(missing, ARTIFACTS, "lab/tlm/data/artifacts")) == (
        "TLM_HOME=s3://lab/tlm: there is no bucket lab. Create it, or name another one in TLM_HOME."
    )


def test_a_store_that_may_only_be_read_says_so() -> None:
    denied = OSError(errno.EACCES, "Access Denied.", "lab/tlm/data/artifacts/.probe")
    assert str(unwritable(denied, ARTIFACTS, "lab/tlm/data/artifacts")) == (
        "TLM_HOME=s3://lab/tlm cannot be written to: access is denied (Access Denied). "
        "Look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they give access to."
    )


# --- with a client of S3 ---

needs_s3fs = pytest.mark.skipif(find_spec("s3fs") is None, reason="s3fs is not installed: pip install 'tlm[s3]'")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Credentials, and no others than these: not of the user's files, nor of a cloud's service."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return {"AWS_ACCESS_KEY_ID": "tlm", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def refusal(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> str:
    from flows.commands.base import runtime

    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as raised:
        runtime(home=f"s3://lab-{uuid.uuid4().hex[:8]}/tlm")
    [line] = str(raised.value).splitlines()
    assert line.startswith("TLM_HOME=s3://lab-") and "/data/artifacts" not in line
    return line.partition(": ")[2]


@needs_s3fs
def test_an_endpoint_where_nobody_listens_is_named(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert refusal(monkeypatch, {**settings, "AWS_ENDPOINT_URL": url}) == (
        f"no object store answers at {url} (Connection refused). Start it, or set AWS_ENDPOINT_URL to its address."
    )


@needs_s3fs
def test_a_setting_that_is_wrong_on_this_machine_is_no_silence_of_the_store(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    wrong = {"AWS_ENDPOINT_URL": "https://127.0.0.1:1", "AWS_CA_BUNDLE": "/nowhere/ca.pem"}
    assert refusal(monkeypatch, {**settings, **wrong}).startswith("the object store cannot be asked (")


@needs_s3fs
def test_a_server_that_takes_a_question_and_never_answers_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    monkeypatch.setattr("tlm.artifacts.asked_once.ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        said = refusal(monkeypatch, {**settings, "AWS_ENDPOINT_URL": url})
    assert said.startswith(f"no object store answers at {url} (Read timeout")


@needs_s3fs
def test_no_credentials_are_told_without_a_word_of_writing(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    assert refusal(monkeypatch, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}) == (
        "there are no credentials for the object store. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    )
    del settings["AWS_SECRET_ACCESS_KEY"]
    assert "missing: AWS_SECRET_ACCESS_KEY" in refusal(monkeypatch, settings)


@needs_s3fs
@pytest.mark.parametrize("url", ["foo", "127.0.0.1:8333"])
def test_what_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], url: str) -> None:
    said = refusal(monkeypatch, {**settings, "AWS_ENDPOINT_URL": url})
    assert (
        said.startswith(f"the object store cannot be asked (Invalid endpoint: {url}).") and "AWS_ENDPOINT_URL" in said
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code"), [("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId")]
)
def test_a_real_server_that_denies_access_is_refused_before_anything_is_written(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], name: str, code: str
) -> None:
    said = refusal(monkeypatch, {**settings, **server, name: "another"})
    assert said.startswith(f"the object store denies access to the list of its files ({code}: ")


@pytest.mark.slow
def test_a_bucket_that_is_made_with_its_first_file_is_not_missed(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    for name, value in {**settings, **server}.items():
        monkeypatch.setenv(name, value)
    store = ArtifactStore(f"s3://new-{uuid.uuid4().hex[:8]}/tlm/data/artifacts")
    bucket_of(store).check_answers()
    bucket_of(store).check_usable()
