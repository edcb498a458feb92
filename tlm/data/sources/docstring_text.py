"""Docstring text: markup off, paragraphs out; library names masked; a content hash that decides task or corpus.

Pure functions on strings, so that their laws can be tested without any installed library.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterable, Iterator

# What replaces every library's name in task paragraphs: it is the label, so it must not be in the text.
NEUTRAL = "library"

# Other spellings of a library's name. A name that is also a word or an initialism elsewhere goes in SHORT instead.
ALIASES: dict[str, tuple[str, ...]] = {
    "bs4": ("beautifulsoup", "beautifulsoup4", "beautiful soup"),
    "cv2": ("opencv",),
    "dateutil": ("python-dateutil",),
    "fontTools": ("font tools",),
    "matplotlib": ("pyplot", "pylab", "mpl", "mpl_toolkits"),
    "networkx": ("network x",),
    "PIL": ("pillow",),
    "pyarrow": ("apache arrow",),
    "pydantic": ("pydantic_core",),
    "sklearn": ("scikit-learn", "scikit learn", "scikit_learn", "scikits.learn", "scikit"),
    "sqlalchemy": ("sql alchemy",),
    "tensorflow": ("tensor flow",),
    "torch": ("pytorch", "py torch", "libtorch", "aten"),
    "transformers": ("hugging face", "huggingface"),
    "yaml": ("pyyaml",),
}
# Import abbreviations: masked only where used as a module, i.e. right before a dot.
SHORT: dict[str, tuple[str, ...]] = {
    "matplotlib": ("plt",),
    "networkx": ("nx",),
    "numpy": ("np",),
    "pandas": ("pd",),
    "pyarrow": ("pa", "pc", "pq"),
    "scipy": ("sp",),
    "sqlalchemy": ("sa",),
    "sympy": ("sy",),
    "tensorflow": ("tf",),
}

_PROSE_DIRECTIVES = ("note", "warning", "tip", "important", "attention", "caution", "danger", "hint", "admonition")
_FENCE = re.compile(r"^(```|~~~)")
_RULE = re.compile(r"^([-=~^\"'`#*+_.:])\1{2,}$")
_DIRECTIVE = re.compile(r"^\.\.(?:\s+(?P<name>[\w:+-]+?)::(?P<rest>.*)|\s.*|)$")
_FIELD = re.compile(
    r"^[:@](?:param|parameter|arg|argument|key|keyword|type|raises?|returns?|rtype|var|ivar|cvar|yields?)\b[^:]*:\s*"
)
_OPTION = re.compile(r"^:[\w -]+:(\s|$)")
# numpydoc "name : type" headers; Google's "name (type): text" and "name: text", of which only the text is prose.
_NUMPYDOC = re.compile(r"^[*`\w][\w.,*`\[\] /]{0,80} :(\s.*)?$")
_GOOGLE = re.compile(r"^[*`]*(?:[\w.*]+[`]*\s*\([^)]{1,200}\)|[a-z_][\w.]*[`]*)\s*:(?:\s+|$)")
_BULLET = re.compile(r"^(?:[-*+•]|\(?\d{1,2}[.)])\s+")
_TABLE = re.compile(r"^(\||\+[-=]|[-=]{2,}\s+[-=]{2,})")
_ROLE = re.compile(r":[\w:+.-]+:`~?!?([^`<]+?)\s*(?:<[^>`]*>)?`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^>`]*>`_{0,2}")
_MARKDOWN_LINK = re.compile(r"\[([^\]]+)\]\(\S*?\)")
_URL = re.compile(r"https?://\S+")
_SPACES = re.compile(r"\s+")
_LETTER = re.compile(r"[^\W\d_]")
_FOLD_DIGITS = re.compile(r"\d+")
_FOLD_REST = re.compile(r"[\W_]+")


def paragraphs(docstring: str, min_words: int) -> Iterator[str]:
    """The prose paragraphs of a raw docstring, one line each, in order; those of fewer than `min_words` words left out.

    Doctests, code blocks, RST directives, section titles, tables and parameter headers are dropped. Whatever remains
    must be mostly letters (60 % of its characters, spaces apart).
    """
    for lines in _blocks(inspect.cleandoc(docstring).split("\n")):
        text = _inline(" ".join(lines))
        if len(text.split()) >= min_words and _is_prose(text):
            yield text


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    block: list[str] = []
    skip_deeper_than: int | None = None  # inside a directive or literal block: skip what is indented more than this
    in_fence = in_doctest = False
    for number, raw in enumerate(lines):
        line = raw.strip()
        indent = len(raw) - len(raw.lstrip())
        if _FENCE.match(line):
            in_fence = not in_fence
            line = ""
        elif in_fence:
            continue
        if not line:
            in_doctest = False
        elif skip_deeper_than is not None:
            if indent > skip_deeper_than:
                continue
            skip_deeper_than = None
        if line.startswith(">>>"):
            in_doctest = True
        starts_new, keep = True, ""
        if not line or in_doctest or _RULE.match(line) or _TABLE.match(line) or _is_title(line, lines, number):
            pass
        elif directive := _DIRECTIVE.match(line):
            if (directive["name"] or "").lower() in _PROSE_DIRECTIVES:
                keep = directive["rest"].strip()
            else:
                skip_deeper_than = indent
        elif field := _FIELD.match(line):
            keep = line[field.end() :]
        elif _OPTION.match(line) or _NUMPYDOC.match(line):
            pass
        elif google := _GOOGLE.match(line):
            keep = line[google.end() :]
        elif bullet := _BULLET.match(line):
            keep = line[bullet.end() :]
        else:
            starts_new, keep = False, line
        if starts_new and block:
            yield block
            block = []
        if keep:
            block.append(keep)
            if keep.endswith("::"):
                skip_deeper_than = indent
    if block:
        yield block


def _is_title(line: str, lines: list[str], number: int) -> bool:
    underline = lines[number + 1].strip() if number + 1 < len(lines) else ""
    return bool(_RULE.match(underline)) or (line.endswith(":") and " " not in line and line[:1].isupper())


def _inline(text: str) -> str:
    text = _ROLE.sub(r"\1", text)
    text = _LINK.sub(r"\1", text)
    text = _MARKDOWN_LINK.sub(r"\1", text)
    text = _URL.sub("", text)
    text = text.replace("`", "").replace("**", "").replace("\\", "").replace("::", ":")
    return _SPACES.sub(" ", text).strip()


def _is_prose(text: str) -> bool:
    return len(_LETTER.findall(text)) >= 0.6 * len(text.replace(" ", ""))


class Mask:
    """Replaces the names of `libraries`, in any spelling known here, by the neutral word.

    A name counts where no letter or digit precedes it and no lower-case letter or digit follows it: `torch`, `Torch.x`,
    `is_torch_available` and `TorchFunction` are masked, `torchvision` is another library and `datasetss` no name.
    """

    def __init__(self, libraries: Iterable[str], also: Iterable[str] = ()) -> None:
        names = {name for library in libraries for name in (library, *ALIASES.get(library, ()))} | set(also)
        short = {name for library in libraries for name in SHORT.get(library, ())}
        # Longest first: "scikit-learn" before "scikit".
        long = sorted({name.lower() for name in names}, key=lambda name: (-len(name), name))
        body = "|".join(re.escape(name) for name in long)
        dotted = "|".join(re.escape(name) for name in sorted(short))
        patterns = [rf"(?:(?i:{body}))(?![a-z0-9])"] if long else []
        patterns += [rf"(?:{dotted})(?=\.\w)"] if dotted else []
        self._pattern = re.compile(rf"(?<![^\W_])(?:{'|'.join(patterns)})") if patterns else None

    def __call__(self, text: str) -> str:
        return self._pattern.sub(NEUTRAL, text) if self._pattern else text


def fold(text: str) -> str:
    """What near-identical paragraphs share: lower case, digits as one zero, no punctuation, single spaces."""
    return _FOLD_REST.sub(" ", _FOLD_DIGITS.sub("0", text.lower())).strip()


def is_task(text: str) -> bool:
    """True for the fixed quarter of all paragraphs that belongs to the task part.

    Depends on the folded text alone, never on which libraries are configured: a task and a corpus with different
    library lists are still disjoint.
    """
    return hashlib.sha256(fold(text).encode("utf-8", "surrogatepass")).digest()[0] < 64
