"""Errors a user can cause, and can mend."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: says what is wrong, where, and how to mend it (the remedy), on one line.

    The command line prints it without a traceback and exits with code 2 (``--debug`` shows the traceback).
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem} {remedy}".strip())

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        """Survive the trip from a worker process (the default would pass one argument)."""
        return (type(self), (self.problem, self.remedy))


class Gone(UserError, LookupError):
    """What a reader was promised is there no longer, or is another: whoever asks again may find it whole."""

    def __init__(self, problem: str, remedy: str = "Run the same command again: what is missing is made.") -> None:
        super().__init__(problem, remedy)


class BatchTooLarge(UserError):
    """The memory does not hold a batch of `items`."""

    def __init__(self, problem: str, remedy: str = "Set a smaller batch_size.", items: int = 0) -> None:
        super().__init__(problem, remedy)
        self.items = items

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, int]]:  # type: ignore[override]
        return (type(self), (self.problem, self.remedy, self.items))
