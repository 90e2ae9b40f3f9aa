"""A reader of finished reports who holds one part of a page against another, with nothing but the page."""

import re
from collections.abc import Iterator

import lxml.html
from lxml.html import HtmlElement as Element
from rendered_words import WORDS, ReportWords

LETTERS = "–GRE"
KINDS = ("not shown", "gist", "recognisable", "exact")
VERDICTS = ("FAIL", "WARN", "PASS", "INCONCLUSIVE")
# Numbers on a page have one decimal: a difference of two is off by a tenth at most.
ROUNDED = 0.11


def page_contradictions(page: str) -> tuple[str, ...]:
    """Return what on a rendered report contradicts another part of it, each as a sentence; none where all agree."""
    read = re.sub(r"<style>.*?</style>", "", re.sub(r"data:[^\"')]{40,}", "data:", page), flags=re.DOTALL)
    # Fifty times as fast as the parser of WeasyPrint: every report that any test renders is read here.
    root = lxml.html.document_fromstring(read, parser=lxml.html.HTMLParser(remove_comments=True))
    checks = (_verdict, _learned, _grades, _matrix, _tiles, _cover, _what_if, _actions, _controls, _hashes, _levels)
    return tuple(found for check in (*checks, _severity, _layers) for found in check(root))


def _words(root: Element) -> ReportWords:
    return WORDS[root.get("lang", "")]


def _all(root: Element, name: str, tag: str = "*") -> list[Element]:
    return [e for e in root.iter() if tag in ("*", e.tag) and name in (e.get("class") or "").split()]


def _one(root: Element, name: str) -> Element | None:
    return next(iter(_all(root, name)), None)


def _text(element: Element | None) -> str:
    return " ".join("".join(element.itertext()).split()) if element is not None else ""


def _section(root: Element, anchor: str) -> Element:
    return next(e for e in root.iter() if e.get("id") == anchor)


def _number(root: Element, text: str) -> float | None:
    """Return the first number of a text, as the page's language writes it."""
    point = "." if root.get("lang") == "en" else ","
    found = re.search(rf"[+−-]?(?:\d+(?:{re.escape(point)}\d+)?|inf)", text)
    return float(found[0].replace("−", "-").replace(",", ".")) if found else None


def _place(root: Element, grade: str) -> int:
    return _words(root).grades.index(grade)


def _word(root: Element) -> str:
    return _text(next(_one(root, "verdict-word").iter("strong")))


def _articles(root: Element) -> list[Element]:
    """Findings of the audited size that are pictures, with their tables of runs."""
    others = {"finding-map", "finding-smaller"}
    return [a for a in _all(_section(root, "findings"), "finding") if not others & set((a.get("class") or "").split())]


def _grade(article: Element) -> str:
    return _text(_all(article, "tag")[0])


def _counts(root: Element, article: Element) -> bool:
    return _words(root).not_counted not in _text(article)


def _rows(table: Element | None) -> list[list[Element]]:
    body = None if table is None else next(table.iter("tbody"), None)
    return [] if body is None else [[e for e in row if e.tag in ("th", "td")] for row in body.iter("tr")]


def _runs(article: Element) -> list[list[str]]:
    return [[_text(cell) for cell in row] for row in _rows(_one(article, "runs"))]


def _attack(root: Element, article: Element) -> str:
    rows = _rows(_one(article, "facts"))
    return next(_text(row[1]).partition(";")[0] for row in rows if _text(row[0]).startswith(_words(root).attack + ","))


def _strongest(root: Element) -> int:
    grades = [_place(root, _grade(a)) for a in _articles(root) if _counts(root, a)]
    return max([*grades, _labels(root)])


def _labels(root: Element) -> int:
    """The grade of labels in their section: the first word of its cell."""
    row = _one(_section(root, "labels"), "label-grade")
    told = "" if row is None else _text(row[1]).partition(":")[0]
    return _place(root, told) if told in _words(root).grades else 0


def _verdict(root: Element) -> Iterator[str]:
    word = _word(root)
    places = {
        "box": (_one(root, "verdict").get("class") or "").split("verdict-")[-1].upper(),
        "title": _text(next(root.iter("title"))).rpartition(": ")[2],
        "description": next(
            m.get("content", "").partition(":")[0] for m in root.iter("meta") if m.get("name") == "description"
        ),
    }
    yield from (f"the {place} says {said}, and page one {word}" for place, said in places.items() if said != word)
    first = _text(_one(root, "verdict-sentence")).partition(":")[0]
    if first in VERDICTS and first != word:
        yield f"the sentence says {first}, and page one {word}"
    strongest, words = _strongest(root), _words(root)
    maps = [a for a in _all(_section(root, "findings"), "finding-map") if words.recovered_exactly in _text(a)]
    others = bool(maps) or words.membership in _text(_section(root, "evidence"))
    if word == "FAIL" and strongest < 2 and not others:
        yield f"page one says FAIL, and the strongest finding that counts is {words.grades[strongest]}"
    if word == "WARN" and strongest > 1:
        yield f"page one says WARN, and a finding that counts is {words.grades[strongest]}"
    if word == "PASS" and strongest > 0:
        yield f"page one says PASS, and a finding that counts is {words.grades[strongest]}"


def _learned(root: Element) -> Iterator[str]:
    """What page one says can be learned against verdict, runs and labels."""
    words, word = _words(root), _word(root)
    lines = {_text(row[0]): _text(row[1].find("strong")) for row in _rows(_one(_one(root, "cover"), "learned"))}
    shown = [title for title, answer in lines.items() if answer in words.shown]
    if word == "PASS" and shown:
        yield f"page one says PASS, and that this can be learned: {shown[0]}"
    if word in ("FAIL", "WARN") and not shown:
        yield f"page one says {word}, and that nothing can be learned"
    exact = any(row[1] == words.grades[3] for a in _articles(root) if _counts(root, a) for row in _runs(a))
    scenes = any(row[1] == words.grades[3] for a in _articles(root) if _counts(root, a) for row in _runs(a)
                 if not row[0].startswith("canary"))  # fmt: skip
    if words.copy in shown and not exact:
        yield "page one says that the clip itself can be recovered, and no run that counts is exact"
    if scenes and words.copy not in shown:
        yield "a run that counts is exact, and page one does not say that the clip itself can be recovered"
    read = _labels(root) > 0
    if (words.label in shown) != read:
        yield f"page one and the section on labels differ on whether labels are read: {lines.get(words.label)}"


def _grades(root: Element) -> Iterator[str]:
    names = _words(root).grades
    for article in _articles(root):
        grade = _place(root, _grade(article))
        runs = [_place(root, row[1]) for row in _runs(article)]
        if max(runs, default=0) > grade:
            yield f"a run of {_attack(root, article)} is {names[max(runs)]}, and its finding {names[grade]}"
        said = next((_text(p) for p in _all(article, "soft", "p") if _text(p).partition(":")[0] in names), "")
        if said.partition(":")[0] != names[grade]:
            yield f"{_attack(root, article)} is tagged {names[grade]} and explained as {said.partition(':')[0]}"


def _matrix(root: Element) -> Iterator[str]:
    tables = _all(_section(root, "method"), "matrix")
    marks: dict[int, list[str]] = {}
    for table in tables:
        for place, row in enumerate(_rows(table)):
            chips = [c for cell in row[1:] for c in _all(cell, "chip") if "chip-absent" not in (c.get("class") or "")]
            for chip in chips:
                shown = LETTERS.index(_text(chip))
                kind = (chip.get("class") or "").split("chip-")[-1].replace("_", " ")
                if kind != KINDS[shown]:
                    yield f"a mark of the matrix shows {KINDS[shown]} and is drawn as {kind}"
                marks.setdefault(place, []).append(_words(root).grades[shown])
    if not tables:
        return
    for place, article in enumerate(_articles(root)):
        runs = sorted(row[1] for row in _runs(article))
        if runs != sorted(marks.get(place, [])):
            shown = sorted(marks.get(place, []))
            yield f"the matrix shows {shown} for {_attack(root, article)}, and its runs are {runs}"


def _tile(root: Element, title: str) -> tuple[str, str, str] | None:
    for tile in _all(root, "tile"):
        if _text(_one(tile, "tile-title")) == title:
            return tuple(_text(_one(tile, name)) for name in ("tile-value", "tile-interval", "tile-detail"))  # type: ignore[return-value]
    return None


def _tiles(root: Element) -> Iterator[str]:
    words = _words(root)
    picture = _tile(root, words.picture_tile)
    counted = [row for a in _articles(root) if _counts(root, a) for row in _runs(a) if len(row) > 4]
    if picture is not None and picture[1] not in (words.not_measured, words.no_baseline):
        gains = [_number(root, row[4]) for row in counted]
        if _number(root, picture[0]) not in gains:
            yield f"the picture tile says {picture[0]}, and no run that counts has that gain"
        low, high = (_number(root, part) for part in picture[1].partition(words.over)[0].split(words.to))
        if None in (low, high) or not low - ROUNDED <= (_number(root, picture[0]) or 0.0) <= high + ROUNDED:
            yield f"the picture tile says {picture[0]}, outside its own range {picture[1]}"
        psnrs = [_number(root, row[2]) for row in counted]
        if _number(root, picture[2].removeprefix(words.best_picture)) not in psnrs:
            yield f"the picture tile says '{picture[2]}', and no run that counts has that PSNR"
    elif picture is not None and picture[1] == words.not_measured and counted:
        yield "the picture tile says that nothing was measured, and runs that count are listed"
    facts = [_text(row[1]) for a in _articles(root) if _counts(root, a) for row in _rows(_one(a, "facts"))]
    facts += [_text(row[1]) for row in _rows(_one(_section(root, "labels"), "facts"))]
    for title in words.shares:
        tile = _tile(root, title)
        if tile is not None and tile[1] != words.not_measured and not any(f.startswith(tile[0]) for f in facts):
            yield f"the tile '{title}' says {tile[0]}, and no finding or label rule does"


def _cover(root: Element) -> Iterator[str]:
    film = _one(_one(root, "cover"), "film-cover")
    if film is None:
        return
    said = _text(next(film.iter("figcaption")))
    found = next((m for pattern in _words(root).covers if (m := re.match(pattern, said))), None)
    if found is None:
        yield f"the cover's caption cannot be read: {said}"
        return
    grade, probe = found["grade"], found["probe"]
    rows = [r for a in _articles(root) if _counts(root, a) for r in _runs(a)]
    if not any(r[1].lower() == grade and r[0].startswith(probe.removesuffix("…")) for r in rows):
        yield f"the cover shows {grade} on {probe}, and no run that counts is that"
    if _place(root, grade.capitalize()) > _strongest(root):
        yield f"the cover shows {grade}, and the strongest finding is {_words(root).grades[_strongest(root)]}"


def _variants(root: Element) -> list[list[Element]]:
    return [row for row in _rows(_one(_section(root, "choices"), "whatif")) if len(row) == 6]


def _what_if(root: Element) -> Iterator[str]:
    table = _one(_section(root, "choices"), "whatif")
    if table is None:
        return
    audited = [r for r in table.iter("tr") if "audited" in (r.get("class") or "")]
    if len(audited) != 1:
        yield f"the what-if table marks {len(audited)} rows as audited"
        return
    base = [e for e in audited[0] if e.tag in ("th", "td")]
    if len(base) != 6:
        return
    grade, names = _text(base[1]), _words(root).grades
    if grade in names and names.index(grade) > _strongest(root):
        yield f"the what-if's audited row is {grade}, and the audit's strongest finding {names[_strongest(root)]}"
    alone = [a for a in _articles(root) if _counts(root, a) and "R0:" in _text(_one(a, "tags"))]
    scenes = [row[1] for a in alone for row in _runs(a) if not row[0].startswith("canary")]
    own = max((names.index(g) for g in scenes), default=0)
    if grade in names and names.index(grade) < own:
        yield f"the what-if's audited row is {grade}, and the audit itself reached {names[own]}"
    for row in _variants(root):
        for value, change in ((2, 3), (4, 5)):
            here, there = _number(root, _text(row[value])), _number(root, _text(base[value]))
            said = _number(root, _text(row[change].find("small")))
            if None not in (here, there, said) and abs(here - there - said) > ROUNDED + 0.05:
                yield f"the what-if '{_text(row[0])[:40]}' has {here} against {there}, and says {said}"


def _actions(root: Element) -> Iterator[str]:
    listed = [_text(li.find("p")) for li in _section(root, "actions").iter("li")]
    first = [_text(li.find("strong")) for li in _one(root, "top-actions").iter("li")]
    for place, action in enumerate(first):
        if place >= len(listed) or listed[place][:60] != action[:60]:
            yield f"page one's action {place + 1} is not the section's: {action[:60]}"
    gains = [_number(root, _text(row[2])) for row in _variants(root)]
    for text in (_text(_section(root, "actions")), _text(_one(root, "top-actions"))):
        for said in re.findall(_words(root).effect, text):
            for number in (_number(root, text) for text in said):
                if not any(g is not None and abs(g - (number or 0.0)) < ROUNDED for g in gains):
                    yield f"an action names a gain of {number} dB, and the what-if table has none such"


def _controls(root: Element) -> Iterator[str]:
    method = _section(root, "method")
    failed = bool(_all(method, "state-no"))
    told = _words(root).control_failed in _text(method)
    if failed != told:
        yield "a control is marked as failed and not told of" if failed else "a failed control is told of, none marked"
    positive = [_text(row[0]) for row in _rows(_one(method, "controls")) if _all(row[1], "state-no")]
    needed = [name for name in positive if any(word in name for word in _words(root).positive)]
    if needed and _word(root) != "INCONCLUSIVE":
        yield f"'{needed[0][:60]}' failed, and the verdict is {_word(root)}"


def _hashes(root: Element) -> Iterator[str]:
    whole = _text(next(_one(_section(root, "integrity"), "hash-model").iter("code")))
    short = _text(next(_one(root, "identity").iter("code")))
    if re.fullmatch(r"[0-9a-f]{64}", whole) and short != whole[:12]:
        yield f"page one shortens the model's hash to {short}, and it is {whole}"


def _levels(root: Element) -> Iterator[str]:
    section = _section(root, "layers")
    table = _one(section, "levels")
    marks = {_text(row[0]): _number(root, _text(row[1])) for row in _rows(table)}
    shown, exposed = marks.get(_words(root).demonstrated), marks.get(_words(root).exposed)
    if shown is None or exposed is None:
        return
    reason = bool(_all(section, "why-below"))
    if exposed < shown - ROUNDED and not reason:
        yield f"exposed ({exposed}) is below demonstrated ({shown}), and no reason is given"
    if exposed > shown + ROUNDED and reason:
        yield f"exposed ({exposed}) is said to be below demonstrated ({shown})"


def _severity(root: Element) -> Iterator[str]:
    found = re.search(_words(root).severity, _text(_one(root, "score")))
    if found is None:
        return
    said = _number(root, found[1]) or 0.0
    most = [0.0]
    for article in _all(_section(root, "findings"), "finding"):
        tag = next((_text(t) for t in _all(article, "tag") if _text(t).startswith(_words(root).severity_tag)), "")
        most += [_number(root, tag) or 0.0] if _counts(root, article) else []
    if max(most) > said + ROUNDED:
        yield f"severity on page one is {found[1]}, and a finding that counts has {max(most)}"
    if (found[2] == _words(root).no_band) != (said == 0.0):
        yield f"severity {found[1]} is called {found[2]}"


def _layers(root: Element) -> Iterator[str]:
    """Hold what layers expose against what attacks on each alone recovered: less has its mark and its sentence."""
    section = _section(root, "layers")
    table = _one(section, "attacked")
    marked = False
    for row in _rows(table) if table is not None else []:
        name, exposed, shown = _text(row[0]), _number(root, _text(row[4])), _number(root, _text(row[5]))
        mark = "↑" in _text(row[5])
        marked |= mark
        if exposed is not None and shown is not None and mark != (exposed < shown - ROUNDED / 2):
            yield f"{name} exposes {exposed} and gave {shown}, {'' if mark else 'not '}marked as more than exposed"
    if marked != bool(_all(section, "layers-below")):
        yield "layers that gave more than they expose, and the sentence on why, do not go together"
