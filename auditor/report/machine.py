"""What of an audit this machine kept from running, in one line."""

from collections.abc import Mapping
from typing import Any

from auditor.report.language import recorded, say
from auditor.text import printable

_LIMITS = ("time", "memory")
_MOST = 4


def machine_line(results: Mapping[str, Any]) -> str:
    """Say what was left out because of the machine; everything else would be the same on another one."""
    cuts = results.get("machine_cuts")
    if cuts is None:
        return say("what it left out because of this machine was not recorded")
    if not cuts:
        return say("nothing was cut by time or memory: another machine finds the same")
    told = [_told(cuts, limit) for limit in _LIMITS if any(c["limit"] == limit for c in cuts)]
    return say("left out whole on this machine %(cuts)s", cuts="; ".join(told))


def _told(cuts: Any, limit: str) -> str:
    these = [c for c in cuts if c["limit"] == limit]
    names = [recorded(printable(c["what"], 60)) + _times(c["times"]) for c in these]
    more = f" {say('and %(n)s more', n=len(names) - _MOST)}" if len(names) > _MOST else ""
    words = say("by --max-time") if limit == "time" else say("by its memory")
    return f"{words}: {', '.join(names[:_MOST])}{more}"


def _times(count: int) -> str:
    return f" ({say('%(n)s runs', n=count)})" if count > 1 else ""
