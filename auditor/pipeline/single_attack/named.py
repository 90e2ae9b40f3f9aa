"""What the words of a single attack mean: its attack, its clip and its label."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from auditor.attack import BY_NAME, PRESETS, Attack
from auditor.errors import UsageError
from auditor.federated import assign_labels
from auditor.pipeline.scan import check_scene
from auditor.probe import canary, shipped_names, shipped_probes, user_probes
from auditor.records import InputSpec, Label, Probe
from auditor.text import did_you_mean, printable

STEPS = PRESETS["standard"].steps
CANARY = "canary"


def attack_named(name: str, restarts: int | None = None) -> Attack:
    """Return an attack of the catalogue, with another number of restarts if one is given.

    Raises
    ------
    UsageError
        There is none of that name, or it has no restarts.
    """
    attack = BY_NAME.get(name)
    if attack is None:
        raise UsageError(
            f"there is no attack {printable(name)}{did_you_mean(name, BY_NAME)}", f"use one of {', '.join(BY_NAME)}"
        )
    if restarts is None:
        return attack
    if "restarts" not in {f.name for f in fields(attack)}:
        raise UsageError(f"the attack {name} has no restarts", "leave --restarts out")
    other: dict[str, Any] = {"restarts": restarts}
    return replace(attack, **other)


def check_clip(clip: str) -> None:
    """Raise UsageError now, rather than after loading the model, if there is no such clip."""
    names = (*shipped_names(), CANARY)
    if clip not in names and not Path(clip).exists():
        raise UsageError(
            f"there is no clip {printable(clip)}{did_you_mean(clip, names)}",
            f"give --clip a video, a folder of frames, an .npz or .npy, or one of {', '.join(names)}",
        )


def clip_named(clip: str, spec: InputSpec, seed: int) -> Probe:
    """Return a shipped clip, a canary, or the one clip that a path holds.

    Raises
    ------
    UsageError
        The path holds no clip or several, or the clip shows a single colour.
    """
    if Path(clip).exists():
        found = user_probes(Path(clip), spec)
        if len(found) > 1:
            raise UsageError(f"{printable(clip)} holds {len(found)} clips", "give --clip one of them")
        probe = found[0]
    elif clip == CANARY:
        probe = canary(spec, seed)
    else:
        probe = next(p for p in shipped_probes(spec) if p.name == clip)
    check_scene(probe)
    return probe


def label_of(text: str | None, name: str, classes: int, kind: str) -> Label:
    """Return what a clip is trained as, in the form that the loss reads; drawn from the clip's name without a text.

    Raises
    ------
    UsageError
        It is no class of the model, or not of the form that the loss reads.
    """
    if text is None:
        (drawn,) = assign_labels([name], classes, kind=kind)  # type: ignore[arg-type]
        return drawn
    shown = printable(text, 40)
    if kind == "value":
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if abs(value) < 1e6:
            return value
        raise UsageError(f"--label {shown} is not a number", "give the value that the clip is trained as, e.g. 0.5")
    most = 2 if kind == "binary" else classes
    parts = text.split(",") if kind == "classes" else [text]
    if not all(part.strip().isdecimal() and int(part) < most for part in parts):
        several = ", several separated by commas" if kind == "classes" else ""
        raise UsageError(f"--label {shown} is no class of this model", f"give 0 to {most - 1}{several}")
    present = tuple(sorted({int(part) for part in parts}))
    return present if kind == "classes" else present[0]
