"""A reader of finished reports who holds one part of a page against another, with nothing but the page."""

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

import tinyhtml5

GRADES = ("Not shown", "Gist", "Recognisable", "Exact")
LETTERS = {"–": "Not shown", "G": "Gist", "R": "Recognisable", "E": "Exact"}
BANDS = ("None", "Low", "Medium", "High", "Critical")
VERDICTS = ("FAIL", "WARN", "PASS", "INCONCLUSIVE")
# Numbers on a page have one decimal: a difference of two is off by a tenth at most.
ROUNDED = 0.11


def page_contradictions(page: str) -> tuple[str, ...]:
    """Return what on a rendered report contradicts another part of it, each as a sentence; none where all agree."""
    read = re.sub(r"<style>.*?</style>", "", re.sub(r"data:[^\"')]{40,}", "data:", page), flags=re.DOTALL)
    root = tinyhtml5.parse(read, namespace_html_elements=False)
    checks = (_verdict, _grades, _matrix, _tiles, _cover, _what_if, _actions, _controls, _hashes, _levels, _severity)
    return tuple(found for check in checks for found in check(root))


def _all(root: Element, name: str, tag: str = "*") -> list[Element]:
    return [e for e in root.iter() if tag in ("*", e.tag) and name in (e.get("class") or "").split()]


def _one(root: Element, name: str) -> Element | None:
    return next(iter(_all(root, name)), None)


def _text(element: Element | None) -> str:
    return " ".join("".join(element.itertext()).split()) if element is not None else ""


def _section(root: Element, anchor: str) -> Element:
    return next(e for e in root.iter() if e.get("id") == anchor)


def _number(text: str) -> float | None:
    found = re.search(r"[+−-]?(?:\d+(?:\.\d+)?|inf)", text)
    return float(found[0].replace("−", "-")) if found else None


def _word(root: Element) -> str:
    return _text(next(_one(root, "verdict-word").iter("strong")))


def _articles(root: Element) -> list[Element]:
    """Findings of the audited size that are pictures, with their tables of runs."""
    found = _all(_section(root, "findings"), "finding")
    return [a for a in found if not _text(a).startswith(("Inverted feature map", "At a smaller size"))]


def _grade(article: Element) -> str:
    return _text(_all(article, "tag")[0])


def _counts(article: Element) -> bool:
    return "Does not count." not in _text(article)


def _rows(table: Element | None) -> list[list[Element]]:
    body = None if table is None else next(table.iter("tbody"), None)
    return [] if body is None else [[e for e in row if e.tag in ("th", "td")] for row in body.iter("tr")]


def _runs(article: Element) -> list[list[str]]:
    return [[_text(cell) for cell in row] for row in _rows(_one(article, "runs"))]


def _attack(article: Element) -> str:
    return next(
        _text(row[1]).partition(";")[0] for row in _rows(_one(article, "facts")) if _text(row[0])[:6] == "Attack"
    )


def _strongest(root: Element) -> int:
    grades = [GRADES.index(_grade(a)) for a in _articles(root) if _counts(a)]
    for anchor, pattern in (("labels", r"Grade ([A-Z][a-z]+(?: shown)?):"), ("evidence", r"^$")):
        found = re.search(pattern, _text(_section(root, anchor)))
        grades += [GRADES.index(found[1])] if found else []
    return max(grades, default=0)


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
    strongest = _strongest(root)
    others = any(
        "feature map" in _text(a) and "Recovered exactly" in _text(a)
        for a in _all(_section(root, "findings"), "finding")
    ) or "membership" in _text(_section(root, "evidence"))
    if word == "FAIL" and strongest < 2 and not others:
        yield f"page one says FAIL, and the strongest finding that counts is {GRADES[strongest]}"
    if word == "WARN" and strongest > 1:
        yield f"page one says WARN, and a finding that counts is {GRADES[strongest]}"
    if word == "PASS" and strongest > 0:
        yield f"page one says PASS, and a finding that counts is {GRADES[strongest]}"


def _grades(root: Element) -> Iterator[str]:
    for article in _articles(root):
        grade = GRADES.index(_grade(article))
        runs = [GRADES.index(row[1]) for row in _runs(article)]
        if max(runs, default=0) > grade:
            yield f"a run of {_attack(article)} is {GRADES[max(runs)]}, and its finding {GRADES[grade]}"
        said = next((_text(p) for p in _all(article, "soft", "p") if _text(p).partition(":")[0] in GRADES), "")
        if said.partition(":")[0] != GRADES[grade]:
            yield f"{_attack(article)} is tagged {GRADES[grade]} and explained as {said.partition(':')[0]}"


def _matrix(root: Element) -> Iterator[str]:
    tables = _all(_section(root, "method"), "matrix")
    marks: dict[int, list[str]] = {}
    for table in tables:
        for place, row in enumerate(_rows(table)):
            chips = [c for cell in row[1:] for c in _all(cell, "chip") if "chip-absent" not in (c.get("class") or "")]
            for chip in chips:
                shown = LETTERS[_text(chip)]
                kind = (chip.get("class") or "").split("chip-")[-1].replace("_", " ")
                if kind != shown.lower():
                    yield f"a mark of the matrix shows {shown} and is drawn as {kind}"
                marks.setdefault(place, []).append(shown)
    if not tables:
        return
    for place, article in enumerate(_articles(root)):
        runs = sorted(row[1] for row in _runs(article))
        if runs != sorted(marks.get(place, [])):
            yield f"the matrix shows {sorted(marks.get(place, []))} for {_attack(article)}, and its runs are {runs}"


def _tile(root: Element, title: str) -> tuple[str, str, str] | None:
    for tile in _all(root, "tile"):
        if _text(_one(tile, "tile-title")) == title:
            return tuple(_text(_one(tile, name)) for name in ("tile-value", "tile-interval", "tile-detail"))  # type: ignore[return-value]
    return None


def _tiles(root: Element) -> Iterator[str]:
    picture = _tile(root, "Picture recovered")
    counted = [row for a in _articles(root) if _counts(a) for row in _runs(a) if len(row) > 4]
    if picture is not None and picture[1] not in ("not measured", "no baseline"):
        gains = [_number(row[4]) for row in counted]
        if _number(picture[0]) not in gains:
            yield f"the picture tile says {picture[0]}, and no run that counts has that gain"
        low, high = (_number(part) for part in picture[1].partition(" over ")[0].split(" to "))
        if None in (low, high) or not low - ROUNDED <= (_number(picture[0]) or 0.0) <= high + ROUNDED:
            yield f"the picture tile says {picture[0]}, outside its own range {picture[1]}"
        psnrs = [_number(row[2]) for row in counted]
        if _number(picture[2].removeprefix("best picture ")) not in psnrs:
            yield f"the picture tile says '{picture[2]}', and no run that counts has that PSNR"
    elif picture is not None and picture[1] == "not measured" and counted:
        yield "the picture tile says that nothing was measured, and runs that count are listed"
    facts = [_text(row[1]) for a in _articles(root) if _counts(a) for row in _rows(_one(a, "facts"))]
    facts += [_text(row[1]) for row in _rows(_one(_section(root, "labels"), "facts"))]
    for title in ("Clip identified", "Payload bits read", "Labels read"):
        tile = _tile(root, title)
        if tile is not None and tile[1] != "not measured" and not any(f.startswith(tile[0]) for f in facts):
            yield f"the tile '{title}' says {tile[0]}, and no finding or label rule does"


def _cover(root: Element) -> Iterator[str]:
    film = _one(_one(root, "cover"), "film-cover")
    if film is None:
        return
    said = _text(next(film.iter("figcaption")))
    found = re.match(r"The strongest reconstruction: ([a-z ]+), by (.+) on (.+)$", said)
    if found is None:
        yield f"the cover's caption cannot be read: {said}"
        return
    grade, attack, probe = found.groups()
    named = attack.removesuffix("…")
    rows = [r for a in _articles(root) if _counts(a) and _attack(a).startswith(named) for r in _runs(a)]
    if not any(r[1].lower() == grade and r[0].startswith(probe.removesuffix("…")) for r in rows):
        yield f"the cover shows {grade} by {attack} on {probe}, and no run that counts is that"
    if GRADES.index(grade.capitalize()) > _strongest(root):
        yield f"the cover shows {grade}, and the strongest finding is {GRADES[_strongest(root)]}"


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
    grade = _text(base[1])
    if grade in GRADES and GRADES.index(grade) > _strongest(root):
        yield f"the what-if's audited row is {grade}, and the audit's strongest finding {GRADES[_strongest(root)]}"
    alone = [a for a in _articles(root) if _counts(a) and "R0:" in _text(_one(a, "tags"))]
    scenes = [row[1] for a in alone for row in _runs(a) if not row[0].startswith("canary")]
    own = max((GRADES.index(g) for g in scenes), default=0)
    if grade in GRADES and GRADES.index(grade) < own:
        yield f"the what-if's audited row is {grade}, and the audit itself reached {GRADES[own]}"
    for row in _variants(root):
        for value, change in ((2, 3), (4, 5)):
            here, there = _number(_text(row[value])), _number(_text(base[value]))
            said = _number(_text(row[change].find("small")))
            if None not in (here, there, said) and abs(here - there - said) > ROUNDED + 0.05:
                yield f"the what-if '{_text(row[0])[:40]}' has {here} against {there}, and says {said}"


def _actions(root: Element) -> Iterator[str]:
    listed = [_text(li.find("p")) for li in _section(root, "actions").iter("li")]
    first = [_text(li.find("strong")) for li in _one(root, "top-actions").iter("li")]
    for place, action in enumerate(first):
        if place >= len(listed) or listed[place][:60] != action[:60]:
            yield f"page one's action {place + 1} is not the section's: {action[:60]}"
    gains = [_number(_text(row[2])) for row in _variants(root)]
    for text in (_text(_section(root, "actions")), _text(_one(root, "top-actions"))):
        for said in re.findall(r"attack gain ([+−-]?[\d.]+) dB to ([+−-]?[\d.]+) dB", text):
            for number in map(_number, said):
                if not any(g is not None and abs(g - (number or 0.0)) < ROUNDED for g in gains):
                    yield f"an action names a gain of {number} dB, and the what-if table has none such"


def _controls(root: Element) -> Iterator[str]:
    method = _section(root, "method")
    failed = bool(_all(method, "state-no"))
    told = "A control failed." in _text(method)
    if failed != told:
        yield "a control is marked as failed and not told of" if failed else "a failed control is told of, none marked"
    if "control failed" in _text(_one(root, "cover")) and not failed:
        yield "page one says that a control failed, and none is marked as failed"
    positive = [_text(row[0]) for row in _rows(_one(method, "controls")) if _all(row[1], "state-no")]
    needed = [name for name in positive if "Positive:" in name or "Simulation:" in name]
    if needed and _word(root) != "INCONCLUSIVE":
        yield f"'{needed[0][:60]}' failed, and the verdict is {_word(root)}"


def _hashes(root: Element) -> Iterator[str]:
    whole = next(
        (_text(r[1]) for r in _rows(_one(_section(root, "integrity"), "hashes")) if _text(r[0]) == "Model"), ""
    )
    short = _text(next(_one(root, "identity").iter("code")))
    if re.fullmatch(r"[0-9a-f]{64}", whole) and short != whole[:12]:
        yield f"page one shortens the model's hash to {short}, and it is {whole}"


def _levels(root: Element) -> Iterator[str]:
    section = _section(root, "layers")
    table = _one(section, "levels")
    marks = {_text(row[0]): _number(_text(row[1])) for row in _rows(table)}
    shown, exposed = marks.get("demonstrated by the best attack"), marks.get("exposed by the whole update")
    if shown is None or exposed is None:
        return
    reason = bool(_all(section, "why-below"))
    if exposed < shown - ROUNDED and not reason:
        yield f"exposed ({exposed}) is below demonstrated ({shown}), and no reason is given"
    if exposed > shown + ROUNDED and reason:
        yield f"exposed ({exposed}) is said to be below demonstrated ({shown})"


def _severity(root: Element) -> Iterator[str]:
    said = _text(_one(root, "score"))
    found = re.match(r"([\d.]+|—) ([A-Z][a-z]+)", said)
    if found is None or found[1] == "—":
        return
    most = [0.0]
    for article in _all(_section(root, "findings"), "finding"):
        tag = next((_text(t) for t in _all(article, "tag") if _text(t).startswith("Severity")), "")
        most += [_number(tag) or 0.0] if _counts(article) else []
    if max(most) > float(found[1]) + ROUNDED:
        yield f"severity on page one is {found[1]}, and a finding that counts has {max(most)}"
    if (found[2] == "None") != (float(found[1]) == 0.0):
        yield f"severity {found[1]} is called {found[2]}"
