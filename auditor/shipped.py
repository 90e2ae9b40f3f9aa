"""Where the data that ships with the package lies, in a wheel and in a checkout."""

from importlib.resources import files
from pathlib import Path


def shipped(folder: str) -> Path:
    """Return the folder `probes` or `report_templates` as shipped with this installation."""
    package = Path(str(files("auditor")))
    inside = package / "_shipped" / folder
    return inside if inside.is_dir() else package.parent / folder
