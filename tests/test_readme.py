"""README and documentation: short, plain, linked, and true of the files that they name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"])
# "About 600 words" of prose; code, tables of numbers and link targets are not prose.
MOST_WORDS, MOST_IN_A_SENTENCE = 700, 30


def prose(text: str) -> str:
    """Return a page without code, pictures and the targets of links."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"^\|[-| ]+\|$", "", text, flags=re.M)


def sentences(text: str) -> list[str]:
    """Return sentences; a row of a table, an item and a paragraph each end one."""
    blocks = re.split(r"\n\s*\n|\n(?=[-#|])|\|", prose(text))
    plain = (" ".join(block.replace("*", "").replace("`", "").split()) for block in blocks)
    return [s for block in plain for s in re.split(r"(?<=[.?!:;])\s+", block) if s]


def test_the_readme_is_short():
    assert len(prose((ROOT / "README.md").read_text(encoding="utf-8")).split()) <= MOST_WORDS


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_sentences_can_be_read_in_one_go(page):
    found = sentences((ROOT / page).read_text(encoding="utf-8"))
    assert len(found) > 10
    assert not [s for s in found if len(s.split()) >= MOST_IN_A_SENTENCE]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http://", "https://", "mailto:"))]
    assert not [link for link in local if not (page.parent / link).exists()]


def test_the_index_names_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {p.name for p in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == {Path(link).name for link in re.findall(r"\]\(([\w.-]+\.md)\)", index)}


def test_the_readme_shows_what_the_makefile_has():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_that_a_page_names_exist(page):
    named = re.findall(
        r"`((?:auditor|tests|benchmarks|examples|docs|probes)/[\w/.-]+)", page.read_text(encoding="utf-8")
    )
    assert not [path for path in named if not (ROOT / path).exists()]
