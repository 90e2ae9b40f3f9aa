"""The catalogue of architectures from the lines of its cases: docs/architectures.md, and the data that reports cite."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from auditor.pipeline.layerwise.rank_correlation import rank_correlation

ROOT = Path(__file__).parent.parent
PAGE, DATA = ROOT / "docs" / "architectures.md", ROOT / "report_templates" / "architectures.json"
Line = Mapping[str, Any]
# A change that moves the best attack by less is not told from another seed.
WORTH_DB = 1.0
# A search that ends further below a prediction fell short of it: as in the calibration of exposure.
SHORT_DB = 3.0
# Beyond the error of rounding pixels to 8 bits two pictures do not differ.
MOST_DB = 58.9
_ENDS = {"inf": MOST_DB, "-inf": -MOST_DB}
_GRADES = {"NOT_SHOWN": "not shown", "GIST": "gist", "RECOGNISABLE": "recognisable", "EXACT": "exact"}


def write(
    lines: Sequence[Line],
    followed: Sequence[Line],
    cases: Sequence[tuple[str, str, int]],
    structures: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write page and data; what was not run stands as not run.

    `followed` are audits without the layers kept back, `structures` the kinds of layers and the head of every net.
    """
    lines, followed = [_finite(line) for line in lines], [_finite(line) for line in followed]
    by_case = {(line["net"], line["weights"], line["batch"]): line for line in lines}
    rules = {name: rule(lines, name) for name in ("batch 4", "head only", "BatchNorm train")}
    rules["keep back"] = kept_back(lines, followed)
    data = {
        "schema": "fl-audit/architectures/1",
        "date": max(line["date"] for line in lines),
        "nets": len({line["net"] for line in lines}),
        "cases": [_row(line) for line in lines],
        "rules": rules,
        "structures": structures,
    }
    DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text("\n".join(_page(lines, followed, cases, by_case, rules, data["date"])), encoding="utf-8")


def _finite(value: Any) -> Any:
    """Return a line with infinite decibels, which JSON writes as words, as the most that means anything."""
    if isinstance(value, dict):
        return {name: _finite(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_finite(held) for held in value]
    if isinstance(value, str):
        return _ENDS.get(value, value)
    return min(value, 200.0) if isinstance(value, float) else value


def rule(lines: Sequence[Line], name: str) -> dict[str, Any]:
    """Say of a change of the protocol on how many nets the audit's strongest attacks met it, and what it did there."""
    changes = [
        variant["delta_gain"]
        for line in lines
        for variant in line["what_if"]
        if variant["name"] == name and not variant["not_compared"] and variant["delta_gain"] is not None
    ]
    tried = sum(any(v["name"] == name and not v["skipped"] for v in line["what_if"]) for line in lines)
    return _evidence(tried, changes)


def kept_back(lines: Sequence[Line], followed: Sequence[Line]) -> dict[str, Any]:
    """Say the same of the layers that audits said to keep back, by the audits without them that followed."""
    before = {(line["net"], line["weights"]): line["best"] for line in lines if line["batch"] == 1}
    changes = [
        min(line["best"], MOST_DB) - min(before[line["net"], line["weights"]], MOST_DB)
        for line in followed
        if line["best"] is not None
    ]
    return _evidence(sum(bool((line["withholding"] or {}).get("layers")) for line in lines), changes)


def _evidence(tried: int, changes: Sequence[float]) -> dict[str, Any]:
    lower = [change for change in changes if change <= -WORTH_DB]
    return {
        "tried": tried,
        "compared": len(changes),
        "lower": len(lower),
        "higher": sum(change >= WORTH_DB for change in changes),
        "median": round(median(changes), 1) if changes else None,
    }


def _row(line: Line) -> dict[str, Any]:
    keep = (
        "net", "family", "weights", "batch", "parameters", "audit", "work", "steps", "verdict", "grade", "best",
        "attack", "blind", "exposed", "determined", "recursion",
    )  # fmt: skip
    row = next((v["grade"] for v in line["what_if"] if v["name"] == "as audited"), None)
    return {**{name: line[name] for name in keep}, "audited_row": row}


def _page(
    lines: Sequence[Line],
    followed: Sequence[Line],
    cases: Sequence[tuple[str, str, int]],
    by_case: Mapping[tuple[str, str, int], Line],
    rules: Mapping[str, Mapping[str, Any]],
    date: str,
) -> Iterator[str]:
    done = sum(case in by_case for case in cases)
    audits = [line for line in lines if line["audit"]]
    others = [line["work"] for line in lines if not line["audit"]]
    yield f"""# What updates of video networks give away, by architecture

`python benchmarks/architectures.py` measures small nets of every family on clips of 8x16x16, one case a line, and goes
on where it stopped; `--write` makes this page. Last case of {date}; {done} of {len(cases)} cases were run. One seed,
fresh weights unless told, BatchNorm in eval mode with the statistics of shipped clips.

*Work* is in reference seconds. {len(audits)} cases are whole audits of two real clips and a canary (`audit`, preset
`fast`, with single layers and changes of the protocol). The others are the same attacks on one real clip with at most
as many steps a search as stand behind the seconds ({median(others) if others else 0:.0f} s in the median); what shows
the clip meets a second one as its null control. No positive controls, single layers or enhancement run there, and there
is no verdict. **A longer search may find more: what is low here is not protected.**

*Determined* counts layers whose input their equations fix; *exposed* is the dB that linear analysis predicts at
least; *alone* the best dB that any layer's gradient gave by itself, and which;
*depth* counts inner values that a recursion read off exactly; *best* is the best picture of the whole update, of which
*blind* is what the best guess without it gives.
"""
    yield from _by_batch(lines)
    for batch in sorted({case[2] for case in cases}):
        for weights in ("fresh", "trained"):
            yield from _table(cases, by_case, batch, weights)
    yield from _confirmed(lines, followed)
    yield from _correlations(lines)
    yield from _rules(rules)


def _table(
    cases: Sequence[tuple[str, str, int]], by_case: Mapping[tuple[str, str, int], Line], batch: int, weights: str
) -> Iterator[str]:
    here = [case for case in cases if case[1:] == (weights, batch)]
    made = [by_case[case] for case in here if case in by_case]
    yield f"## {batch} clip{'s' * (batch > 1)} an update, {weights} weights\n"
    if not made:
        yield f"None of {len(here)} cases was run.\n"
        return
    yield "| net | parameters | determined | exposed | alone, by layer | depth | best | blind | grade | work |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for family in dict.fromkeys(line["family"] for line in made):
        for line in (one for one in made if one["family"] == family):
            yield _cells(line)
    missing = [name for name, *_ in here if (name, weights, batch) not in by_case]
    yield f"\nNot run: {', '.join(missing)}.\n" if missing else ""


def _cells(line: Line) -> str:
    alone = [(la["alone"]["psnr"], la["name"]) for la in line["layers"] if la["alone"]]
    most = max(alone, default=None)
    best = "—" if line["best"] is None else f"{line['best']:.1f} dB, {line['attack']}"
    exposed = "—" if line["exposed"] is None else f"{line['exposed']:.1f}"
    return (
        f"| {line['net']} | {line['parameters']:,} | {line['determined'][0]} of {line['determined'][1]} | {exposed} | "
        f"{'—' if most is None else f'{most[0]:.1f}, `{most[1]}`'} | {line['recursion']} | {best} | "
        f"{'—' if line['blind'] is None else format(line['blind'], '.1f')} | {_GRADES[line['grade']]} | "
        f"{line['work']:.0f} s, {'audit' if line['audit'] else line['steps']} |"
    )


def _by_batch(lines: Sequence[Line]) -> Iterator[str]:
    """Count by family the nets of which a clip was shown, for clips an update and weights."""
    batches, states = sorted({line["batch"] for line in lines}), ("fresh", "trained")
    yield (
        """## By family: nets of which a recognisable or exact clip was shown

| family | """
        + " | ".join(f"B = {batch}, {state}" for state in states for batch in batches)
        + " |"
    )
    yield "|---|" + "---|" * (len(states) * len(batches))
    for family in dict.fromkeys(line["family"] for line in lines):
        cells = []
        for state in states:
            for batch in batches:
                here = [one for one in lines if (one["family"], one["weights"], one["batch"]) == (family, state, batch)]
                shown = sum(one["grade"] in ("RECOGNISABLE", "EXACT") for one in here)
                cells.append(f"{shown} of {len(here)}" if here else "—")
        yield f"| {family} | {' | '.join(cells)} |"
    yield ""


def _confirmed(lines: Sequence[Line], followed: Sequence[Line]) -> Iterator[str]:
    yield """## Layers that were kept back, and the audits that followed

Where an audit named layers to keep back, another audit of all clips followed, with `--trainable` of the other layers.
"""
    if followed:
        yield "| net | kept back | of the parameters | best before | best in the audit that followed | grade |"
        yield "|---|---|---|---|---|---|"
    by_net = {(line["net"], line["weights"]): line for line in lines if line["batch"] == 1}
    for line in followed:
        first = by_net[line["net"], line["weights"]]
        names = ", ".join(f"`{name}`" for name in line["layers"])
        best = "—" if line["best"] is None else f"{line['best']:.1f} dB, {line['attack']}"
        yield (
            f"| {line['net']} | {names} | {first['withholding']['share']:.1%} | {first['best']:.1f} dB, "
            f"{first['attack']} | {best} | {_GRADES[line['grade']]} |"
        )
    known = {(line["net"], line["weights"]) for line in followed}
    for line in (one for one in by_net.values() if (one["withholding"] or {}).get("layers")):
        if (line["net"], line["weights"]) not in known:
            names = ", ".join(f"`{name}`" for name in line["withholding"]["layers"])
            yield f"Named for {line['net']} and not followed yet: {names} ({line['withholding']['share']:.1%})."
    none = [line["net"] for line in lines if line["withholding"] and not line["withholding"]["layers"]]
    yield f"\nNo set was found in the work of these audits for {', '.join(none)}.\n" if none else ""


def _correlations(lines: Sequence[Line]) -> Iterator[str]:
    yield """## How well predictions order the layers

Spearman's rank correlation over the single layers of a net with the dB over a blind guess that each alone gave (at
most 300 steps a search; a failed attack counts as 0). *Numbers* are those of the layer's input that its equations fix,
for each pixel value.

| net | layers | shown | determined | numbers | exposed | gradient | why it is low |
|---|---|---|---|---|---|---|---|"""
    for line in lines:
        if line["audit"]:
            yield _correlation(line)
    yield ""


def _correlation(line: Line) -> str:
    held = [la for la in line["layers"] if la["alone"]]
    gains = [max(0.0, la["alone"]["gain"]) for la in held]
    values = [None if la["determined"] is None or not la["values"] else la["determined"] * la["values"] for la in held]
    columns = (
        [la["determined"] for la in held], values, [la["exposed"] for la in held], [la["gradient"] for la in held]
    )  # fmt: skip
    found = [rank_correlation(column, gains) for column in columns]
    told = ["—" if rho is None else f"{rho:.2f}" for rho in found]
    shown = sum(gain >= WORTH_DB for gain in gains)
    why = "" if max((rho for rho in found[:3] if rho is not None), default=-1.0) >= 0.8 else _why_low(line, held)
    name = line["net"] if line["weights"] == "fresh" else f"{line['net']}, {line['weights']}"
    return f"| {name} | {len(held)} | {shown} | {' | '.join(told)} | {why} |"


def _why_low(line: Line, held: Sequence[Mapping[str, Any]]) -> str:
    """Say what in the line itself keeps a correlation low."""
    exposed = [la for la in held if la["exposed"] is not None]
    short = sum(la["alone"]["psnr"] < la["exposed"] - SHORT_DB for la in exposed)
    told = f"{short} of {len(exposed)} searches ended {SHORT_DB:.0f} dB or more below what their layer exposes"
    return "; ".join(reason for reason in ((line["ranks"] or {}).get("reason"), told if short else "") if reason)


def _rules(rules: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"""## Rules, and on how many nets they held

*Compared* counts the nets on which the audit's strongest attacks met the change as they met the audited protocol; only
there a difference says something. *Lower* and *higher* are by {WORTH_DB:.0f} dB or more. Reports cite this table beside
what they recommend.

| change | tried | compared | lower | higher | median |
|---|---|---|---|---|---|"""
    for name, held in rules.items():
        middle = "—" if held["median"] is None else f"{held['median']:+.1f} dB"
        yield f"| {name} | {held['tried']} | {held['compared']} | {held['lower']} | {held['higher']} | {middle} |"
    yield ""
