"""The catalogue of architectures from the lines of its cases: docs/architectures.md, and the data that reports cite."""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from architecture_nets import CLIP
from layers import PREDICTIONS, SHORT_DB, correlations, strongest

from auditor.exposure.layers import OPTIMISER_NOISE
from auditor.pipeline.layerwise.rank_correlation import LEAST_LAYERS

ROOT = Path(__file__).parent.parent
PAGE, DATA = ROOT / "docs" / "architectures.md", ROOT / "report_templates" / "architectures.json"
Line = Mapping[str, Any]
Case = tuple[str, str, int, str]
# A change that moves the best attack by less is not told from another seed.
WORTH_DB = 1.0
# Predictions that lie closer are the same.
TIED_DB = 0.05
# Beyond the error of rounding pixels to 8 bits two pictures do not differ.
MOST_DB = 58.9
_ENDS = {"inf": MOST_DB, "-inf": -MOST_DB}
_GRADES = {"NOT_SHOWN": "not shown", "GIST": "gist", "RECOGNISABLE": "recognisable", "EXACT": "exact"}


def write(
    made: Sequence[Line],
    layers: Sequence[Line],
    orders: Sequence[Line],
    followed: Sequence[Line],
    before: Sequence[Line],
    cases: Sequence[Case],
    statistics: Sequence[Case],
    structures: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write page and data; what was not run stands as not run.

    Parameters
    ----------
    made
        Cases: of two lines of one case, that of a whole audit stands.
    layers
        Single layers under attack.
    orders
        What the order of patches has to do with their pictures.
    followed
        Audits without the layers kept back.
    before
        Rules as an earlier page counted them, whose lines are lost: they stand where they rest on more nets.
    cases, statistics
        What is to be run, and that of BatchNorm in train mode.
    structures
        The kinds of layers and the head of every net.
    """
    by_case = {_case(line): _finite(line) for line in sorted(made, key=lambda line: line["audit"])}
    lines = [line for line in by_case.values() if line["batchnorm"] == "eval"]
    followed = [_finite(line) for line in followed]
    rules = {name: rule(lines, name) for name in ("batch 4", "head only", "BatchNorm train")}
    for old in before:
        if old["compared"] > rules[old["name"]]["compared"]:
            rules[old["name"]] = {one: old[one] for one in rules[old["name"]]}
    rules["keep back"] = kept_back(lines, followed)
    data = {
        "schema": "fl-audit/architectures/1",
        "date": max(line["date"] for line in lines),
        "nets": len({line["net"] for line in lines}),
        "cases": [_row(line) for line in lines],
        "statistics": [_row(by_case[case]) for case in statistics if case in by_case],
        "rules": rules,
        "structures": structures,
    }
    DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    told = [
        *_page(lines, followed, cases, by_case, rules, data["date"]),
        *_statistics(statistics, by_case),
        *_correlations(layers),
        *_orders(orders),
        *_rules(rules),
    ]
    PAGE.write_text("\n".join(told), encoding="utf-8")


def _case(line: Line) -> Case:
    return line["net"], line["weights"], line["batch"], line["batchnorm"]


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
        for variant in (line["what_if"] if _gave(line) else ())
        if variant["name"] == name and not variant["not_compared"] and variant["delta_gain"] is not None
    ]
    tried = sum(any(v["name"] == name and not v["skipped"] for v in line["what_if"]) for line in lines)
    return _evidence(tried, changes)


def _gave(line: Line) -> bool:
    """Tell whether the update as it is gave anything that a change could lower."""
    base = next((variant for variant in line["what_if"] if variant["name"] == "as audited"), None)
    return base is None or base["gain"] is None or base["gain"] >= WORTH_DB


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
    cases: Sequence[Case],
    by_case: Mapping[Case, Line],
    rules: Mapping[str, Mapping[str, Any]],
    date: str,
) -> Iterator[str]:
    done = sum(case in by_case for case in cases)
    audits = [line for line in lines if line["audit"]]
    others = [line["work"] for line in lines if not line["audit"]]
    taken = sum(line.get("from_page", False) for line in lines)
    yield f"""# What updates of video networks give away, by architecture

`python benchmarks/architectures.py` measures small nets of every family on clips of 8x16x16, one case a line of
`benchmarks/architectures.jsonl`, goes on where it stopped, and makes this page of all lines. Last case of {date};
{done} of {len(cases)} cases were run. One seed, fresh weights unless told, BatchNorm in eval mode with the statistics
of shipped clips unless told. {taken} cases are taken over from an earlier page of that day, without their single
layers and changes of the protocol.

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


def _table(cases: Sequence[Case], by_case: Mapping[Case, Line], batch: int, weights: str) -> Iterator[str]:
    here = [case for case in cases if case[1:3] == (weights, batch)]
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
    missing = [name for name, *_ in here if (name, weights, batch, "eval") not in by_case]
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


def _statistics(statistics: Sequence[Case], by_case: Mapping[Case, Line]) -> Iterator[str]:
    yield """## BatchNorm in train mode, and its statistics in the update

Fresh weights, one clip an update. *Eval* is the case above; in train mode clips are normalised by their own
statistics, which *sent* adds to the update as running averages (`--bn train --send-buffers`).

| net | eval | train | sent |
|---|---|---|---|"""
    for net in dict.fromkeys(case[0] for case in statistics):
        held = [by_case.get((net, "fresh", 1, how)) for how in ("eval", "train", "sent")]
        yield f"| {net} | {' | '.join('not run' if one is None else _best(one) for one in held)} |"
    yield ""


def _best(line: Line) -> str:
    found = "no attack ran" if line["best"] is None else f"{line['best']:.1f} dB, {line['attack']}"
    return f"{found}, {_GRADES[line['grade']]}"


def _correlations(layers: Sequence[Line]) -> Iterator[str]:
    yield f"""## How well predictions order the layers

Every layer was attacked alone. Spearman's rank correlation over the layers of a net (equal values share their ranks)
with the dB over a blind guess that each gave; a failed attack counts as 0. *Numbers* are those of the layer's input
that its equations fix, for each pixel value; these and *determined* are over the layers that have equations, which
tables of positions, norms and recurrent layers lack. *The stronger* takes of every layer the search that gave most;
*tau* is Kendall's tau-b of what is exposed. *Misfit* is how far the
update of the picture that a search ended with is from what was sent, relative to it: exposure supposes
{OPTIMISER_NOISE:g}, and what ends above did not use all that the layer says.

| net | layers | steps | shown | determined | numbers | exposed | gradient | tau | what keeps it low |
|---|---|---|---|---|---|---|---|---|---|"""
    for steps, held in _by_effort(layers):
        yield _correlation(steps, held)
    few = sorted({line["modes"] for line in layers if line["modes"] < prod(CLIP)})
    told = " and ".join(f"{modes:,}" for modes in few)
    yield f"\nExposure was measured in the {told} leading modes of a clip here, not in all.\n" if few else ""


def _orders(orders: Sequence[Line]) -> Iterator[str]:
    if not orders:
        return
    yield """A layer that sums over tokens tells them apart by their positions alone. *Shuffled* is the misfit of the
true clip with its patches in another order: where it is small, one start may end at patches that lie in a wrong order.
*In the best order* needs the truth, and says how much of the error the order is.

| net | layer | shuffled | one start found | its misfit | patches that lie elsewhere | in the best order |
|---|---|---|---|---|---|---|"""
    for line in orders:
        told = (
            f"{line['shuffled']:.2g} | {line['psnr']:.1f} dB | {line['misfit']:.2g} | {line['moved']} of {line['of']}"
        )
        yield f"| {line['net']} | `{line['layer']}` | {told} | {line['ordered']:.1f} dB |"
    yield ""


def _by_effort(layers: Sequence[Line]) -> Iterator[tuple[str, Sequence[Line]]]:
    """Yield the lines of every net and effort with its name, and of every layer the strongest where there are more."""
    nets: dict[str, dict[str, list[Line]]] = {}
    for line in layers:
        steps = f"{line['steps']:,}" + (f", {line['restarts']} starts" if line["restarts"] > 1 else "")
        nets.setdefault(line["net"], {}).setdefault(steps, []).append(line)
    for efforts in nets.values():
        yield from efforts.items()
        if len(efforts) > 1:
            yield "the stronger", strongest([line for held in efforts.values() for line in held])


def _correlation(steps: str, held: Sequence[Line]) -> str:
    found, tau = correlations(held), correlations(held, "kendall")["exposed"]
    told = ["—" if rho is None else f"{rho:.2f}" for rho in (*(found[one] for one in PREDICTIONS), tau)]
    shown = sum((line["gain"] or 0.0) >= WORTH_DB for line in held)
    ordered = max((found[one] for one in ("determined", "numbers", "exposed") if found[one] is not None), default=-1.0)
    why = "" if round(ordered, 2) >= 0.8 else _why_low(held, shown)
    return f"| {held[0]['net']} | {len(held)} | {steps} | {shown} | {' | '.join(told)} | {why} |"


def _why_low(held: Sequence[Line], shown: int) -> str:
    """Say what the lines show of why a correlation is low."""
    reasons = []
    if shown < LEAST_LAYERS:
        reasons.append(
            f"{shown} of {len(held)} layers gave more than {WORTH_DB:.0f} dB over a guess: the rest are ties"
        )
    known = [line for line in held if line["exposed"] is not None and line["psnr"] is not None]
    below = [line for line in known if line["psnr"] < line["exposed"] - SHORT_DB]
    stuck = sum(line["misfit"] > OPTIMISER_NOISE for line in below)
    if stuck:
        reasons.append(
            f"{stuck} search{'es' * (stuck > 1)} ended {SHORT_DB:.0f} dB or more below what is exposed, with a misfit "
            f"above {OPTIMISER_NOISE:g}: too short"
        )
    if len(below) > stuck:
        reasons.append(
            f"{len(below) - stuck} ended {SHORT_DB:.0f} dB or more below what is exposed, with a misfit below it: at "
            "pictures of nearly the same gradient"
        )
    like = max((line["exposed"] for line in known), default=0.0) - TIED_DB
    alike = sum(line["exposed"] >= like for line in known)
    if len(known) >= LEAST_LAYERS and alike >= len(known) - 1:
        reasons.append(f"{alike} of {len(known)} expose the same within {TIED_DB:g} dB")
    above = sum(line["psnr"] > line["exposed"] + SHORT_DB for line in known)
    if above:
        reasons.append(f"{above} gave {SHORT_DB:.0f} dB or more above what is exposed")
    return "; ".join(reasons)


def _rules(rules: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"""## Rules, and on how many nets they held

*Compared* counts the nets on which attacks gave {WORTH_DB:.0f} dB or more over a guess, and the strongest of them met
the change as they met the audited protocol; only there a difference says something. *Lower* and *higher* are by
{WORTH_DB:.0f} dB or more. Reports cite this table beside what they recommend, and nothing where none is compared.

| change | tried | compared | lower | higher | median |
|---|---|---|---|---|---|"""
    for name, held in rules.items():
        middle = "—" if held["median"] is None else f"{held['median']:+.1f} dB"
        yield f"| {name} | {held['tried']} | {held['compared']} | {held['lower']} | {held['higher']} | {middle} |"
    yield ""
