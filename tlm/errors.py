"""Errors a user can cause, and can mend."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: says what is wrong, where, and the way out, on one line.

    The command line prints it without a traceback and exits with code 2 (``--debug`` shows the traceback).
    """

    def __init__(self, problem: str, way_out: str = "") -> None:
        self.problem = problem
        self.way_out = way_out
        super().__init__(f"{problem} {way_out}".strip())

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        """Survive the trip from a worker process (the default would pass one argument)."""
        return (type(self), (self.problem, self.way_out))


class BatchTooLarge(UserError):
    """The memory does not hold a batch of `items`."""

    def __init__(self, problem: str, way_out: str = "Set a smaller batch_size.", items: int = 0) -> None:
        super().__init__(problem, way_out)
        self.items = items

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, int]]:  # type: ignore[override]
        return (type(self), (self.problem, self.way_out, self.items))
