"""How deep a recursion went: in one line, and layer by layer beside the picture that came out."""

from collections.abc import Mapping
from typing import Any

from auditor.report import figures
from auditor.report.language import say
from auditor.report.wording import GRADES

_SURE = ("exact", "completed")


def deepest(finding: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the result of a finding whose recursion solved most values; None where none descended."""
    return max((r for r in finding["results"] if r.get("depth")), key=_solved, default=None)


def sentence(result: Mapping[str, Any]) -> str:
    """Return how many values came out exactly, by what, and what equations told of the one at which it ended."""
    depth = result["depth"]
    exact, completed = (sum(d["how"] == how for d in depth) for how in _SURE)
    sure = [d for d in depth if d["how"] in _SURE]
    said = say("%(n)s values exact", n=exact)
    if completed:
        said += say(", %(n)s completed by signs", n=completed)
    if sure:
        said += say(
            ", down to what %(layers)s reads (residual %(residual)s)",
            layers=_readers(sure[-1]),
            residual=figures.tiny(sure[-1]["residual"]),
        )
    ended = next((d for d in depth if d["how"] not in _SURE), None)
    if ended is not None:
        said += say(
            "; of what %(layers)s reads, equations determine %(known)s, and the rest was sought",
            layers=_readers(ended),
            known=_known(ended),
        )
    return said


def depth_line(results: Mapping[str, Any]) -> str | None:
    """Return one short line on the deepest recursion of an audit; None where no attack descended."""
    held = [r for f in results["findings"] if (r := deepest(f)) is not None]
    best = max(held, key=_solved, default=None)
    sure = [] if best is None else [d for d in best["depth"] if d["how"] in _SURE]
    if best is None or not sure:
        return None
    signs = sum(d["how"] == "completed" for d in sure)
    said = f"{len(sure)} inner values exact" + (f" ({signs} by signs)" if signs else "")
    said += f", down to what {sure[-1]['weights'][0].removesuffix('.weight')} reads"
    ended = next((d for d in best["depth"] if d["how"] not in _SURE), None)
    return said if ended is None else f"{said}; then {_known(ended)}"


def scaled_line(results: Mapping[str, Any]) -> str | None:
    """Return one line on what smaller clips showed; None where they were not tried."""
    smaller = results.get("scaled_down")
    if not smaller:
        return None
    runs = [(r, f) for f in smaller["findings"] for r in f["results"] if r["score"] is not None]
    if not runs:
        return f"clips of {figures.size(smaller['shape'])}: nothing was recovered"
    best, finding = max(runs, key=lambda run: figures.real(run[0]["score"]["psnr"]) or 0.0)
    grade, reached = GRADES[finding["grade"]].lower(), figures.decibels(best["score"]["psnr"])
    return f"clips of {figures.size(smaller['shape'])}: {grade}, {reached} by {finding['attack']}; not the audited size"


def _known(entry: Mapping[str, Any]) -> str:
    known = figures.whole(round(entry["share"] * entry["unknowns"]))
    return say("%(known)s of %(all)s unknowns", known=known, all=figures.whole(entry["unknowns"]))


def _solved(result: Mapping[str, Any]) -> int:
    return sum(d["how"] in _SURE for d in result["depth"])


def _readers(entry: Mapping[str, Any]) -> str:
    return say(" and ").join(weight.removesuffix(".weight") for weight in entry["weights"])
