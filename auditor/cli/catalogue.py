"""What `fl-audit list` prints."""

from collections.abc import Iterable

from auditor.attack import BATTERY, COMPARISON, MALICIOUS, PRESETS, Attack, Preset
from auditor.pipeline.time_plan import TimePlan
from auditor.probe.real import manifest
from auditor.text import printable


def listing(what: str) -> str:
    """Return attacks, probes, presets or all of them as plain text."""
    parts = {"attacks": _attacks, "probes": _probes, "presets": _presets}
    chosen = parts if what == "all" else {what: parts[what]}
    return "\n\n".join(f"{title.upper()}\n{make()}" for title, make in chosen.items())


def _attacks() -> str:
    groups = {
        "of an audit": BATTERY,
        "on a model that the server manipulates (--malicious-server)": MALICIOUS,
        "for comparison, run by `fl-audit attack` and studies only": COMPARISON,
    }
    return "\n".join(f"  {title}\n{_titles(attacks)}" for title, attacks in groups.items())


def _titles(attacks: Iterable[Attack]) -> str:
    return "\n".join(f"    {a.name:26} {a.title}\n{'':31}{a.source}" for a in attacks)


def _probes() -> str:
    lines = [
        f"  {entry['name']:22} {printable(str(entry.get('in_view', entry.get('people', ''))))}" for entry in manifest()
    ]
    lines.append(f"  {'canary':22} generated: carries random bits at several scales (in every scan)")
    return "\n".join(lines)


def _minutes(preset: Preset) -> str:
    most = f"{preset.seconds / 60:.0f}"
    return f"{preset.least_seconds / 60:.0f} to {most}" if preset.least_seconds else most


def _presets() -> str:
    return "\n".join(
        f"  {p.name:22} about {_minutes(p)} min (up to {p.most_seconds / 60:.0f} min for deep nets), "
        f"{p.probes} clips, {p.seeds} seed{'s' if p.seeds > 1 else ''}, "
        f"at most {p.steps} steps a descent\n{'':25}work: {TimePlan.of(p, what_if=None, malicious=None, faces=False)}"
        for p in PRESETS.values()
    )
