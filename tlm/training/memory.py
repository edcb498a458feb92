"""Running out of memory: recognising it, and saying so."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tlm.errors import BatchTooLarge, UserError
from tlm.machine.memory import WAYS_TO_NEED_LESS

CODE = r"could not create a primitive(?! descriptor)"
"""oneDNN, when there is no room for the code that it compiles for a shape (without a descriptor: no such code exists)."""
SIGNS = re.compile(
    f"can't allocate memory|could not create a memory|{CODE}|std::bad_alloc|CUDA error: out of memory|ALLOC_FAILED"
)
"""How torch's CPU allocator, oneDNN, C++, CUDA and its libraries say it."""
AMOUNT = re.compile(r"(tried|unable) to allocate [\d.]+ \w+", re.IGNORECASE)


def out_of_memory(error: BaseException) -> bool:
    """Whether torch, numpy or Python, on any device, could not allocate; a UserError says what it has to say itself."""
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or SIGNS.search(str(error)) is not None
    return known and not isinstance(error, UserError)


@contextmanager
def out_of_memory_is(problem: str, items: int = 0) -> Iterator[None]:
    """A context in which running out of memory becomes a UserError of `problem`, or a BatchTooLarge of `items` if given."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        found = AMOUNT.search(str(error)) or SIGNS.search(str(error))
        text = f"{problem} ({found[0].lower() if found else type(error).__name__})."
        raise (BatchTooLarge(text, items=items) if items else UserError(text, f"Use {WAYS_TO_NEED_LESS}.")) from error


def no_substitutes() -> None:
    """Make it an error that a product did not find memory for its code; torch would warn and use one of other rounding."""
    warnings.filterwarnings("error", f"mkldnn_matmul failed.*{CODE}")
