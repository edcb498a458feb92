"""Text that was cut into words for a parser, "John 's ship , ( sunk )", as people write it: "John's ship, (sunk)"."""

from __future__ import annotations

import re

RULES = tuple(
    (re.compile(pattern, re.IGNORECASE), put)
    for pattern, put in (
        (r" ([.,:;!?%)\]}»]+)(?=[ .,:;!?%)\]}»]|$)", r"\1"),  # stands behind a word; again below, for two in a row
        (r" ([.,:;!?%)\]}»]+)(?=[ .,:;!?%)\]}»]|$)", r"\1"),
        (r"(?<![^ (\[{«])([(\[{«]) (?=\S)", r"\1"),
        (r"(?<![^ (\[{«])([$£€#]) (?=\d)", r"\1"),
        (r"(?<=\w) ('(?:s|m|d|re|ve|ll)|n't)(?!\w)", r"\1"),
        (r"(?<=\S) '(?=[ .,:;!?%)\]}»]|$)", "'"),  # a closing quotation mark, or a plural's
    )
)
"""Patterns and what is put in their place, in this order. Quotation marks alike at both ends are left as they are."""


def detokenised(text: str) -> str:
    """The text without the spaces that stand between words and their marks. What else is in it stays."""
    for pattern, put in RULES:
        text = pattern.sub(put, text)
    return text
