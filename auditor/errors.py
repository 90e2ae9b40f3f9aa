"""What can go wrong, and the exit code that tells it apart.

AuditError                 5  an internal error (out of memory included)
├── UsageError             2  the command line, the options or the user's clips are wrong
├── NotAuditable           3  the model file holds nothing that can be audited
└── Inconclusive           4  the budget ended before anything was measured

Exit 0 means the gate is satisfied, 1 that it failed on findings, 130 that the audit was interrupted.
Every error is one line: what happened, then what to do about it.
"""

import enum


class ExitCode(enum.IntEnum):
    """The exit codes of `fl-audit`; 4 and 5 fail a CI job by default (fail closed)."""

    GATE_SATISFIED = 0
    GATE_FAILED = 1
    USAGE = 2
    NOT_AUDITABLE = 3
    INCONCLUSIVE = 4
    INTERNAL = 5
    INTERRUPTED = 130


class AuditError(Exception):
    """An error with a cause and a remedy, printed as one line.

    Parameters
    ----------
    cause
        What happened, without a trailing full stop.
    remedy
        What the user can do about it, as an imperative; empty if there is nothing to say.
    """

    exit_code = ExitCode.INTERNAL

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}; {self.remedy}" if self.remedy else self.cause


class UsageError(AuditError):
    """The command line, an option or a probe file is wrong."""

    exit_code = ExitCode.USAGE


class NotAuditable(AuditError):
    """The model cannot be audited: unreadable, unsupported, or nothing in it is trained."""

    exit_code = ExitCode.NOT_AUDITABLE


class Inconclusive(AuditError):
    """The time budget ended before a single attack step."""

    exit_code = ExitCode.INCONCLUSIVE


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory is short: of the system or of a GPU, by PyTorch or by Python."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said
