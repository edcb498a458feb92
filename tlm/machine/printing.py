"""Text from outside as it may be printed: a terminal obeys some characters, and no file can hold others."""

from __future__ import annotations

import re

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but line breaks and tabs, and halves of characters."""

_USERINFO = re.compile(r"""[^\s/"'`]*:[^\s/"'`]*@""")


def printable(text: str) -> str:
    r"""The text with what a terminal obeys, or cannot show, spelled out (\x1b, \ud83c)."""
    return _OBEYED.sub(lambda found: _spelled_out(found[0]), text)


def without_passwords(text: str) -> str:
    """The text without the `user:password@` of addresses in it, which need not be sound ones."""
    return _USERINFO.sub("", text)


def _spelled_out(c: str) -> str:
    return f"\\u{ord(c):04x}" if c > "\xff" else f"\\x{ord(c):02x}"
