"""What the user gives a factory or an architecture with `--arg`, checked against its own parameters."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from auditor.errors import UsageError
from auditor.model.sandbox.user_file import in_a_line
from auditor.text import printable

SHOWN = 12
UNEXPECTED = "unexpected keyword argument"


def check_arguments(shown: str, factory: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Compare arguments with a signature before the call.

    Raises
    ------
    UsageError
        A name is unknown, or a parameter without default is not given.
    """
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # a builtin without signature: the call itself will tell
        return
    named = [p for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in named]
    shown_names = ", ".join(map(printable, names[:SHOWN])) + (", …" if len(names) > SHOWN else "")
    own = f"its parameters are {shown_names}" if names else "it has no parameters"
    positional = [p.name for p in parameters.values() if p.kind == p.POSITIONAL_ONLY and p.default is p.empty]
    if positional:
        raise UsageError(
            f"{shown} takes '{printable(positional[0])}' by position only", "write a factory that takes it by name"
        )
    anything = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    unknown = [name for name in given if name not in names]
    if unknown and not anything:
        near = difflib.get_close_matches(unknown[0], names, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"{shown} has no parameter '{printable(unknown[0])}'", f"{hint}{own}")
    needed = [p.name for p in named if p.default is p.empty and p.name not in given]
    if needed:
        raise UsageError(
            f"{shown} needs {', '.join(map(printable, needed))}", f"give --arg {printable(needed[0])}=VALUE; {own}"
        )


def constructor_error(shown: str, error: Exception, given: Mapping[str, Any], plain: Callable[[], Any]) -> UsageError:
    """Return the error for an architecture that raised while it was built with arguments.

    `plain` builds the architecture without them: a library passes what it does not know on to a class, whose
    parameters are then named.
    """
    if UNEXPECTED in str(error):
        try:
            check_arguments(shown, type(plain()), given)
        except UsageError as better:
            return better
    return UsageError(f"{shown} raised {in_a_line(error)}", "correct --arg")
