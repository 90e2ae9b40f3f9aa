"""Every message that the sources of a report name, found by reading them."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import jinja2

from auditor.report import page, study, wording
from auditor.report.language.catalogue import Entry

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "auditor" / "report").rglob("*.py"))
# Reports of their own commands are in English alone: no language is given with them.
ENGLISH = ("comparison.html.j2", "comparison_plot.html.j2", "defend.html.j2")
TEMPLATES = sorted(path for path in (ROOT / "report_templates").rglob("*.j2") if path.name not in ENGLISH)
# What ends in `say` of a name: words declared in tables.
TABLES = (("fidelity.py", "_SEMANTICS"), ("fidelity.py", "UPPER_BOUND"), ("membership.py", "_KINDS"))

Found = dict[tuple[str, str], str]


def messages() -> Found:
    """Return where each message stands, by its English and its plural."""
    found: Found = {}
    for path in SOURCES:
        found |= dict.fromkeys(_of_code(path), path.name)
    for path in TEMPLATES:
        found |= dict.fromkeys(_of_template(path), path.name)
    words = [value for name, value in vars(wording).items() if name.isupper()]
    found |= dict.fromkeys(_texts(words), "wording.py")
    found |= dict.fromkeys(_texts([title for _, title in (*page.SECTIONS, *study.SECTIONS)]), "sections")
    found |= dict.fromkeys(_texts([title for _, title in study._PICTURES]), "study.py")
    entries = json.loads((ROOT / "report_templates" / "frameworks.json").read_text("utf-8"))["entries"]
    found |= dict.fromkeys(
        _texts([[e[key] for key in ("place", "title", "why", "strength", "date", "source")] for e in entries]),
        "frameworks.json",
    )
    return found


def _of_code(path: Path) -> Iterator[tuple[str, str]]:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("say", "say_many", "_raw")
        ):
            texts = [a.value for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if texts:
                yield texts[0], texts[1] if node.func.id == "say_many" else ""
        if isinstance(node, ast.Assign) and (path.name, ast.unparse(node.targets[0])) in TABLES:
            yield from _texts(ast.literal_eval(node.value))
    if path.name == "fidelity.py":
        yield "not recorded", ""


def _of_template(path: Path) -> Iterator[tuple[str, str]]:
    environment = jinja2.Environment(extensions=["jinja2.ext.i18n"], trim_blocks=True, lstrip_blocks=True)
    environment.policies["ext.i18n.trimmed"] = True
    environment.newstyle_gettext = True  # type: ignore[attr-defined]
    for _, name, text in environment.extract_translations(path.read_text("utf-8")):
        if isinstance(text, str):
            yield text, ""
        elif text and text[0] is not None:
            yield text[0], (text[1] or "") if name == "ngettext" else ""


def _texts(words: object) -> Iterator[tuple[str, str]]:
    if isinstance(words, str):
        yield words, ""
    else:
        for value in words.values() if isinstance(words, Mapping) else words:  # type: ignore[attr-defined]
            yield from _texts(value)


def places(text: str) -> set[str]:
    """Return the places of a message that are filled."""
    return set(re.findall(r"%\((\w+)\)s", text))


def tags(text: str) -> list[str]:
    """Return the tags within a message, in order of their names."""
    return sorted(re.findall(r"</?\w+", text))


def entry_text(english: str, plural: str = "") -> str:
    """Return an entry as the catalogue wants it, to be filled."""
    quoted = lambda text: json.dumps(text, ensure_ascii=False)  # noqa: E731
    if not plural:
        return f'msgid {quoted(english)}\nmsgstr ""\n'
    return f'msgid {quoted(english)}\nmsgid_plural {quoted(plural)}\nmsgstr[0] ""\nmsgstr[1] ""\n'


def filled(entry: Entry) -> bool:
    """Return whether every text of an entry is there."""
    return all(entry.texts) and len(entry.texts) == (2 if entry.plural else 1)
