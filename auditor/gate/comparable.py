"""What makes two audits hard to compare, each as a sentence."""

from collections.abc import Iterator, Mapping
from typing import Any

from auditor.gate.standing import tells_families
from auditor.text import printable

Results = Mapping[str, Any]
# Which model, where it ran, and when a pipeline stops: none of these changes what was tried.
_NOT_TRIED = frozenset(
    ("model", "weights", "arg", "extractor", "head", "extractor_weights", "head_weights", "device", "fail_on")
)
# What decides how numbers are rounded; the same work on another machine ends within rounding, or where a search
# amplified it, within what seeds differ by, which `spread` covers.
_ROUNDING = ("device", "threads", "cpu_capability", "blas", "denormals", "cuda", "cudnn", "tf32", "torch")
_PROTOCOL = ("algorithm", "batch", "loss", "labels", "bn", "trainable", "dropout", "local", "output")


def differences(old: Results, new: Results) -> tuple[str, ...]:
    """Return what differs between two audits other than the model: a change may come from there."""
    checks = (_tool, _options, _protocol, _input, _probes, _cuts, _rounding)
    return tuple(found for check in checks for found in check(old, new))


def _tool(old: Results, new: Results) -> Iterator[str]:
    before, now = old["tool"], new["tool"]
    if before["version"] != now["version"]:
        yield f"the baseline is of fl-audit {_shown(before['version'])}, this audit of {_shown(now['version'])}"
    if before["preset"] != now["preset"]:
        yield f"the baseline took the preset {_shown(before['preset'])}, this audit {_shown(now['preset'])}"
    if before["seed"] != now["seed"]:
        yield f"the baseline took the seed {_shown(before['seed'])}, this audit {_shown(now['seed'])}"
    if not (tells_families(old) and tells_families(new)):
        yield "an older version told no families of attacks: attacks were matched by their names"


def _options(old: Results, new: Results) -> Iterator[str]:
    before, now = old["tool"]["options"], new["tool"]["options"]
    told = {"preset", "seed", "input_shape", "probes", *_PROTOCOL}
    for name in sorted((before.keys() & now.keys()) - _NOT_TRIED - told):
        if before[name] != now[name]:
            yield f"{name} was {_shown(before[name])} in the baseline, and is {_shown(now[name])}"


def _protocol(old: Results, new: Results) -> Iterator[str]:
    before, now = old["protocol"], new["protocol"]
    for name in _PROTOCOL:
        if before[name] != now[name]:
            yield f"the protocol differs: {name} was {_shown(before[name])} in the baseline, and is {_shown(now[name])}"
    if before["threat_model"]["id"] != now["threat_model"]["id"]:
        yield "the threat model differs: nothing can be matched"


def _input(old: Results, new: Results) -> Iterator[str]:
    sizes = [tuple(r["model"]["input"][k] for k in ("frames", "channels", "height", "width")) for r in (old, new)]
    if sizes[0] != sizes[1]:
        before, now = ("x".join(map(str, size)) for size in sizes)
        yield f"clips were {before} (frames, channels, height, width) in the baseline, and are {now}"


def _probes(old: Results, new: Results) -> Iterator[str]:
    before, now = ({p["name"]: p["sha256"] for p in r["probes"] if p["kind"] != "canary"} for r in (old, new))
    if before.keys() != now.keys():
        told = ", ".join(_shown(name) for name in sorted(before.keys() ^ now.keys())[:3])
        yield f"the probes differ: only one of the two audits attacked {told}"
    changed = [name for name in sorted(before.keys() & now.keys()) if before[name] != now[name]]
    if changed:
        yield f"the probes differ: {_shown(changed[0])} is another clip under the same name"


def _cuts(old: Results, new: Results) -> Iterator[str]:
    for results, which in ((old, "the baseline"), (new, "this audit")):
        cuts = results.get("machine_cuts") or ()
        if cuts:
            yield f"{which} was cut by its machine ({_shown(cuts[0]['what'])}): what it lacks may be there"


def _rounding(old: Results, new: Results) -> Iterator[str]:
    before, now = old.get("environment") or {}, new.get("environment") or {}
    other = [name for name in _ROUNDING if name in before and name in now and before[name] != now[name]]
    if other:
        told = ", ".join(f"{name} {_shown(before[name])} and {_shown(now[name])}" for name in other)
        yield f"the two audits rounded differently ({told}): small changes may come from there"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return printable(", ".join(map(str, value)) or "none", 60)
    if isinstance(value, Mapping):
        return printable(", ".join(f"{k} {v}" for k, v in value.items()), 100)
    return printable(str(value), 60)
