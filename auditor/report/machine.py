"""What of an audit this machine kept from running, in one line."""

from collections.abc import Mapping
from typing import Any

from auditor.text import printable

_LIMITS = {"time": "by --max-time", "memory": "by its memory"}
_MOST = 4


def machine_line(results: Mapping[str, Any]) -> str:
    """Say what was left out because of the machine; everything else would be the same on another one."""
    cuts = results.get("machine_cuts")
    if cuts is None:
        return "what it left out because of this machine was not recorded"
    if not cuts:
        return "nothing was cut by time or memory: another machine finds the same"
    told = [_told(cuts, limit, words) for limit, words in _LIMITS.items() if any(c["limit"] == limit for c in cuts)]
    return f"left out whole on this machine {'; '.join(told)}"


def _told(cuts: Any, limit: str, words: str) -> str:
    these = [c for c in cuts if c["limit"] == limit]
    names = [printable(c["what"], 60) + (f" ({c['times']} runs)" if c["times"] > 1 else "") for c in these]
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{words}: {', '.join(names[:_MOST])}{more}"
