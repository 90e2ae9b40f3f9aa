"""The summary of an audit as Markdown, with everything that came from outside made inert."""

import re
from collections.abc import Mapping
from typing import Any

from auditor.gate.judge import judgement_of
from auditor.report import figures, wording
from auditor.report.ci.changes import counted
from auditor.report.fidelity import RECIPE, UPPER_BOUND, fidelity_rows, not_seen
from auditor.report.headline import headlines
from auditor.report.layers.keep_back import following, kept_back
from auditor.report.membership import membership_sentence
from auditor.report.plain import results_digest
from auditor.report.references import reference_rows
from auditor.text import printable

# What Markdown reads as more than text, wherever it stands; a dot, a colon or a dash only where a link or a list may
# begin, so that the source reads as text too.
_SPECIAL = re.compile(
    r"(?P<always>[\\`*\[\]|<>&~])|(?P<edge>(?<![^\W_])_|_(?![^\W_]))|(?P<link>(?<=www)\.|:(?=/)|(?<=mailto):|(?<=xmpp):)"
    r"|(?P<name>@(?=\w)|\#(?=\w))|(?P<start>^[-+#=](?=[\s#=-]|$)|(?<=^\d)[.)]|(?<=^\d\d)[.)])",
    re.IGNORECASE,
)
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;", ":": "&#58;", ".": "&#46;", "#": "&#35;"}


def to_markdown(results: Mapping[str, Any]) -> str:
    """Return verdict, the three numbers, findings, controls and actions; no pictures."""
    verdict, tool, model = results["verdict"], results["tool"], results["model"]
    fidelity = model["fidelity"]
    lines = [
        f"## fl-audit: {verdict['word']}, {wording.VERDICTS[verdict['word']]}",
        "",
        _inert(verdict["sentence"], 600),
        "",
        f"Model {_inert(model['name'], 80)}, SHA-256 {_inert(figures.short_hash(model['sha256']), 12)}, "
        f"audit {_inert(tool['audit_id'], 12)}",
        "",
        *_table(("Measured", "Value", "Interval"), [(h.title, h.value, h.interval) for h in headlines(results)]),
        "",
        *_gate(judgement_of(results) if results.get("judgement") else None),
        "### Fidelity of the audited model",
        "",
        *_table(("Checked", "Result"), list(fidelity_rows(fidelity, model["parameters"]))),
        "",
        *_told(fidelity),
        "### Findings",
        "",
        *_table(
            ("Finding", "Grade", "Severity", "Summary"),
            [
                (f["title"], wording.GRADES[f["grade"]], _severity(f["severity"]), f["summary"])
                for f in results["findings"]
            ]
            + [
                (f"Inverted feature map: {m['layer']}", "—", _severity(m["severity"]), m["summary"])
                for m in results.get("feature_maps", ())
            ],
        ),
        "",
        "### Controls",
        "",
        *_table(("Control", "State"), [(c["name"], _state(c)) for c in results["controls"]]),
        "",
        *_layers(results),
        *_defences(results),
        *_privacy(results.get("privacy")),
        *_replay(results.get("replay")),
        *_references(results),
        *_membership(results),
        *_retrieval(results),
        *_enhancement(results),
        *_malicious(results.get("malicious_server")),
        "### Actions",
        "",
        *[f"{n}. {_inert(a['text'], 400)} ({_inert(a['effect'] or 'not measured')})" for n, a in _numbered(results)],
        "",
        f"What was not tested, the limits of this audit and the evidence are in the full report. "
        f"Digest of the results: `{results_digest(results)}`",
        "",
    ]
    return "\n".join(lines)


def _gate(judgement: Mapping[str, Any] | None) -> list[str]:
    """The gate's decision, every alert with what became of it, and what weakens the comparison."""
    if not judgement:
        return []
    rows: list[tuple[str, ...]] = [
        (
            a["state"] or "—",
            f"{a['rule']}: {a['subject']}",
            _severity(a["severity"]),
            "waived" if a["waiver"] is not None else "fails" if a["fails"] else "",
            a["reason"] or a["message"],
        )
        for a in judgement["alerts"]
    ]
    word = "satisfied" if judgement["passed"] else "failed"
    told = [*(f"gate {word}: {reason}" for reason in judgement["reasons"]), *judgement["warnings"]]
    head = ("State", "Alert", "Severity", "Gate", "Because")
    return [f"### Gate: {counted(judgement)}", "", *_table(head, rows), "", *(f"- {_inert(t, 400)}" for t in told), ""]


def _told(fidelity: Mapping[str, Any]) -> list[str]:
    """The upper bound, and every check that was not made."""
    told = [f"**{_inert(UPPER_BOUND, 300)}** Export again: `{RECIPE}`"] if fidelity["upper_bound"] else []
    told += [f"- {_inert(text, 300)}" for text in not_seen(fidelity)]
    return [*told, ""] if told else []


def _layers(results: Mapping[str, Any]) -> list[str]:
    """What came of looking for layers to keep back."""
    told, command = kept_back(results), following(results)
    again = f" To confirm: `{_inert(command, 800)}`" if command else ""
    return [f"**Layers:** {_inert(told, 600)}{again}", ""] if told else []


def _defences(results: Mapping[str, Any]) -> list[str]:
    """What is done to updates, and which attacks have no form for it."""
    rows: list[tuple[str, ...]] = [
        (d["name"], d["acts"], d["told"], ", ".join(d["unknown_to"]) or "none")
        for d in results["protocol"].get("defences", ())
    ]
    if not rows:
        return []
    return ["### Defences", "", *_table(("Defence", "At the", "What it does", "Attacks left out"), rows), ""]


def _privacy(claim: Mapping[str, Any] | None) -> list[str]:
    """What a privacy claim is worth."""
    return (
        [f"**Privacy claim:** {_inert(' '.join((claim['sentence'], claim.get('note', ''))), 800)}", ""] if claim else []
    )


def _replay(replayed: Mapping[str, Any] | None) -> list[str]:
    """Whether a real client sends what was audited."""
    return [f"**Replay:** {_inert(replayed['sentence'], 600)}", ""] if replayed else []


def _references(results: Mapping[str, Any]) -> list[str]:
    """What frames of the scene are by themselves, and what the update adds."""
    rows: list[tuple[str, ...]] = [
        (
            row.probe,
            row.kind,
            figures.decibels(row.without),
            figures.decibels(row.copy["psnr"]),
            figures.decibels(row.psnr),
            figures.decibels(row.copy["motion_beyond"], signed=True),
            row.sentence,
        )
        for row in reference_rows(results)
    ]
    notes = (results.get("references") or {}).get("notes", ())
    if not rows and not notes:
        return []
    head = ("Clip", "Attacker", "R0", "Frames alone", "With update", "Motion over the frames", "What the update adds")
    title = "### What an attacker with one frame of your scene gains"
    return [title, "", *_table(head, rows), "", *(f"- {_inert(note, 300)}" for note in notes), ""]


def _membership(results: Mapping[str, Any]) -> list[str]:
    told = membership_sentence(results)
    return [f"**Was this frame in the client's clip?** {_inert(told, 400)}", ""] if told else []


def _retrieval(results: Mapping[str, Any]) -> list[str]:
    """How often each attack's reconstructions find their clips in a gallery, beside chance and beside the null."""
    rows: list[tuple[str, ...]] = []
    for f in results["findings"]:
        found = f.get("retrieval") or {}
        for how in ("pixels", "embedding"):
            own, null = found.get(how), found.get(f"null {how}")
            if own:
                rows.append((f["title"], how, *_search(own), "-" if not null else _search(null)[1]))
    if not rows:
        return []
    head = ("Attack", "Search by", "First", "Mean rank", "Null's mean rank")
    return ["### Clips found in a gallery", "", *_table(head, rows), ""]


def _search(q: Mapping[str, Any]) -> tuple[str, str]:
    remark = "" if q["independent"] else "; not independent evidence"
    rank = f"{figures.fixed(q['mean_rank'], 1)} of {q['gallery']} (chance {figures.fixed(q['chance_rank'], 1)})"
    return f"{figures.of(q['recall_1'])} ({figures.span(q['recall_1'])}){remark}", rank


def _enhancement(results: Mapping[str, Any]) -> list[str]:
    """What each enhancer did to the best reconstruction of each attack."""
    rows: list[tuple[str, ...]] = [
        (
            f["title"],
            r["probe"],
            f"{e['method']} x{figures.whole(e['scale'])}",
            figures.decibels(e["gain_over_bicubic"], signed=True),
            figures.decibels(e.get("null_gain"), signed=True),
            e["added"]["word"],
        )
        for f in results["findings"]
        for r in f["results"]
        for e in r["enhanced"]
        if e.get("added")
    ]
    if not rows:
        return []
    head = ("Attack", "Clip", "Method", "Over bicubic", "The same on the null", "Added")
    return ["### What enhancement added", "", f"{wording.ENHANCED}", "", *_table(head, rows), ""]


def _malicious(server: Mapping[str, Any] | None) -> list[str]:
    """What a malicious server would have got: a what-if, told as one."""
    if not server:
        return []
    rows: list[tuple[str, ...]] = [
        (
            m["name"],
            "did not run" if m["skipped"] else wording.GRADES.get(m["grade"] or "", "-"),
            figures.decibels(m["gain"], signed=True),
            figures.decibels(m["honest_gain"], signed=True),
            figures.decibels(m["null_gain"], signed=True),
            m["skipped"]["reason"] if m["skipped"] else m["answer"],
        )
        for m in server["manipulations"]
    ]
    return [
        f"### What if the server were malicious? Threat model {_inert(server['threat_model']['id'], 12)}, not counted",
        "",
        _inert(server["note"], 600),
        "",
        *_table(("Manipulation", "Grade", "Gain", "Honest server", "Null", "Client-side check"), rows),
        "",
    ]


def _numbered(results: Mapping[str, Any]) -> list[tuple[int, Any]]:
    return list(enumerate(results["actions"], start=1))


def _severity(severity: Mapping[str, Any]) -> str:
    return f"{figures.fixed(severity['score'], 1)} {wording.BANDS[severity['band']]}"


def _state(control: Mapping[str, Any]) -> str:
    if control["kind"] == "blind" and control["passed"] is None and control["measured"] is not None:
        return "for reference"
    return {True: "passed", False: "FAILED", None: "not run"}[control["passed"]]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return ["None."]
    return [_line(head), _line(("---",) * len(head), raw=True), *(_line(row) for row in rows)]


def _line(cells: tuple[str, ...], raw: bool = False) -> str:
    return f"| {' | '.join(c if raw else _inert(c, 300) for c in cells)} |"


def _inert(text: str, cap: int = 120) -> str:
    return _SPECIAL.sub(lambda match: _ENTITIES.get(match[0], "\\" + match[0]), printable(text, cap))
