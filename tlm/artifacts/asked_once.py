"""Whether an object store answers, asked once and before any work: if it does not, why, and the way out."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import textwrap
from typing import Any
from urllib.parse import urlsplit

from tlm.errors import UserError
from tlm.machine.files import reason
from tlm.machine.places import home_of
from tlm.machine.printing import without_passwords

DENIED, REFUSED = (401, 403), (400, 405)
"""What a server answers that will answer so again. Not 404: some make a bucket when first something is written there."""
ADDRESS = "Start it, or set AWS_ENDPOINT_URL to its address."
SETTINGS = "Look at AWS_REGION and the credentials, and whether AWS_ENDPOINT_URL is an object store's."
CREDENTIALS = "Look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they give access to."
NO_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
REMEDY = "Look at TLM_HOME, AWS_ENDPOINT_URL and the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."
SILENCE = {"ConnectionError", "ConnectionClosedError", "ReadTimeoutError"}
"""Kinds of botocore's errors that say that nobody answers."""
ANSWER_SECONDS = 10
"""How long a server that has taken the question may think about it."""
LONGEST = 120
"""Characters of what a library says: of a name that is wrong it says all that would be right."""


def ask(url: str, client: Any, root: str) -> None:
    """Have a store of S3's kind list one file, which every command does sooner or later.

    It is asked by a client of its own, that makes no request twice: its pauses would add up to a minute.

    Raises:
        UserError: if nobody answers, the credentials are none or are refused, or a setting is wrong.
    """
    import fsspec

    settings = {**client.config_kwargs, "retries": {"max_attempts": 0}, "read_timeout": ANSWER_SECONDS}
    bucket, _, folder = root.partition("/")
    try:
        once, _ = fsspec.url_to_fs(url, config_kwargs=settings, skip_instance_cache=True)
        once.retries = 1
        once.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{folder}/", MaxKeys=1)
    except Exception as error:
        if told := unanswered(error, url):
            raise told from error


def unanswered(error: Exception, url: str) -> UserError | None:
    """What is told of an error of s3fs or botocore; None if it is an answer to which one may go on."""
    home = f"TLM_HOME={home_of(url)}"
    words = without_passwords(getattr(error, "strerror", None) or str(error))
    said = textwrap.shorten(words, LONGEST, placeholder=" …").rstrip(".")
    if (answer := getattr(error.__cause__, "response", None)) is not None:
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = answer.get("Error", {}).get("Code", "")
        if status in DENIED:
            problem = f"{home}: the object store denies access to the list of its files ({code}: {said})."
            return UserError(problem, CREDENTIALS)
        if status in REFUSED:
            problem = f"{home}: the object store refuses to list files ({status}, {code}: {said})."
            return UserError(problem, SETTINGS)
        return None
    # By name: a home on a disk does without botocore.
    kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "botocore.exceptions"}
    if kinds & SILENCE:
        told = getattr(error, "kwargs", {})
        asked = urlsplit(str(told.get("endpoint_url", "")))
        where = f" at {asked.scheme}://{asked.netloc.rpartition('@')[2]}" if asked.netloc else ""
        return UserError(f"{home}: no object store answers{where} ({_words(told.get('error')) or said}).", ADDRESS)
    if "NoCredentialsError" in kinds:
        return UserError(f"{home}: there are no credentials for the object store.", NO_CREDENTIALS)
    return UserError(f"{home}: the object store cannot be asked ({said}).", REMEDY)


def unwritable(error: OSError, url: str, root: str) -> UserError:
    """What is told where the first file cannot be written."""
    home = f"TLM_HOME={home_of(url)}"
    if error.errno == errno.ENOENT:
        bucket = without_passwords(root.partition("/")[0])
        return UserError(f"{home}: there is no bucket {bucket}.", "Create it, or name another one in TLM_HOME.")
    if error.errno == errno.EACCES:
        return UserError(f"{home} cannot be written to: access is denied ({reason(error).rstrip('.')}).", CREDENTIALS)
    return UserError(f"{home} cannot be written to: {reason(error).rstrip('.')}.", REMEDY)


def _words(error: object) -> str:
    """What the system says of a connection that aiohttp could not make."""
    cause = getattr(error, "os_error", None)
    if not isinstance(cause, OSError) or not cause.strerror:
        return ""
    own = isinstance(cause, ssl.SSLError | socket.gaierror)  # their numbers are not those of the system
    return cause.strerror if own or not cause.errno else os.strerror(cause.errno)
