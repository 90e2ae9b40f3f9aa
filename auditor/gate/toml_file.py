"""Read a TOML file that a person wrote: whatever is wrong with it is one line."""

import tomllib
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.text import printable


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises
    ------
    UsageError
        It cannot be read, or is no TOML.
    """
    name = printable(str(path), 200)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot read {name} ({error.strerror or type(error).__name__})", "give the path of a TOML file"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is no text in UTF-8", "save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{name} is no TOML: {printable(str(error), 120)}", "correct that line") from None
