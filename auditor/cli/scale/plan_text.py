"""A planned scan on the terminal."""

from collections.abc import Mapping
from typing import Any

from auditor.text import printable

_GIB = 2**30


def forecast_view(plan: Mapping[str, Any]) -> str:
    """Return the plan as lines: its parts with runs and seconds, what is left out, and the sum."""
    rows = [("stage", "what", "runs", "seconds")]
    rows += [(p["stage"], p["what"], str(p["runs"]), f"{p['seconds']:.0f}") for p in plan["parts"]]
    wide = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{stage:<{wide[0]}}  {printable(what, 60):<{wide[1]}}  {runs:>{wide[2]}}  {seconds:>{wide[3]}}"
        for stage, what, runs, seconds in rows
    ]
    if plan["left_out"]:
        lines += ["", "Left out:"]
        lines += [f"  {s['what']}: {printable(s['reason'], 200)}" for s in plan["left_out"]]
    name = printable(plan["model"], 60)
    jobs = f" with --jobs {plan['jobs']}" if plan["jobs"] > 1 else ""
    free = f"{plan['free_memory'] / _GIB:.1f} GiB can be used"
    short = "" if plan["fits"] else "; memory does not hold all of it"
    return "\n".join(
        [
            *lines,
            "",
            f"{name}, {plan['preset']}{jobs}: about {_told(plan['seconds'])} on this machine, idle",
            f"Memory: about {plan['memory'] / _GIB:.1f} GiB; {free}{short}",
        ]
    )


def _told(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
