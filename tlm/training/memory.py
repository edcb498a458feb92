"""Running out of memory: recognising it, and saying so."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tlm.errors import BatchTooLarge, UserError
from tlm.machine.memory import WAYS_TO_NEED_LESS

NO_ROOM_FOR_CODE = r"could not create a primitive(?! descriptor)"
"""What oneDNN says when there is no room for the code that it compiles for a shape. (Followed by "descriptor" it
means that there is no such code.)"""
SIGNS = re.compile(
    f"can't allocate memory|could not create a memory|{NO_ROOM_FOR_CODE}|std::bad_alloc|"
    "CUDA error: out of memory|ALLOC_FAILED"
)
"""What the messages of torch's CPU allocator, oneDNN, C++, CUDA and its libraries have in common when memory is short."""
AMOUNT = re.compile(r"(tried|unable) to allocate [\d.]+ \w+", re.IGNORECASE)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that torch, numpy or Python could not allocate memory; a UserError already says so itself."""
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
    """Make it an error if oneDNN has no memory to compile a matrix product: torch would warn, and use one that rounds
    differently."""
    warnings.filterwarnings("error", f"mkldnn_matmul failed.*{NO_ROOM_FOR_CODE}")
