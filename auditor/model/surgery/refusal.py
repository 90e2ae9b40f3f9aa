"""Why a change cannot be made exactly."""

from auditor.errors import UsageError
from auditor.text import printable


def refused(change: str, why: str, remedy: str = "write it into the factory, and compare by --vary") -> UsageError:
    """Return the error that says in a line why a change is none that applies to this network."""
    return UsageError(f"{printable(change)} does not apply: {why}", remedy)
