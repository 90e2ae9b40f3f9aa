"""Reference frames: what an attacker holds of the scene, where it comes from, and what is to be told about it."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from auditor.attack import Attack
from auditor.errors import UsageError
from auditor.probe import Galleries, reference_frames
from auditor.records import Clip, Clips, InputSpec, Probe, record
from auditor.score import EXACT_DB, blind_guesses, psnr, reference_copies
from auditor.text import printable

# The attacker of R1 holds one frame, that of Rk three, where the user says nothing.
ONE, SEVERAL = 1, 3
_FIRST = "first:"
# Longer numbers are no counts of frames, and Python refuses to read very long ones.
_DIGITS = 6
# Half a grey level of 8-bit video, root mean square: a frame of one colour, which shows nothing of a scene.
BLANK = 0.5 / 255


@record
class Copied:
    """How near reference frames alone come to one clip: dB of the nearest copy and of the best guess without them."""

    probe: str
    frames: int
    psnr: float
    blind: float
    notes: tuple[str, ...]


@record
class References:
    """The frames that every attacker with a reference holds.

    Attributes
    ----------
    given
        The user's frames at the model's size, oldest first; None where the attacked clip's own first frames are held.
    first
        How many of these; None for one (R1) or three (Rk).
    source
        Where the frames come from, for people.
    notes
        What is wrong with them, whatever the clip: sentences.
    """

    given: Clip | None = None
    first: int | None = None
    source: str = "first frames of the attacked clip"
    notes: tuple[str, ...] = ()

    def held(self, attack: Attack, probe: Probe) -> Clip | None:
        """Return what the attacker holds of a probe's scene, oldest first; None for an attack without a reference."""
        most = attack.frames_of_scene
        if most < 1:
            return None
        if self.given is not None:
            return self.given[-most:]
        return probe.clip[: self.first or (ONE if most == 1 else SEVERAL)][-most:]

    def obstacle(self, attack: Attack, probe: Probe) -> str | None:
        """Say why an attack with several frames is no other than that with one."""
        held = self.held(attack, probe)
        if attack.frames_of_scene > 1 and held is not None and len(held) < 2:
            return "one reference frame is held: the attack with one does the same"
        return None

    @property
    def several(self) -> bool:
        """Whether the user gave more than one frame."""
        return (len(self.given) if self.given is not None else self.first or 0) > 1


def references_from(given: Sequence[str], spec: InputSpec) -> References:
    """Read `--reference`: pictures, folders of frames, videos and arrays, one after another, or `first:K`.

    Raises
    ------
    UsageError
        A file is missing or cannot be read, K is no number of frames of a clip, or `first:K` stands beside files.
    """
    if not given:
        return References()
    counts = [text for text in given if text.startswith(_FIRST)]
    if counts:
        if len(given) > 1:
            raise UsageError("--reference first:K stands beside other references", "give it alone, or files only")
        return _first(counts[0], spec)
    read = [(text, reference_frames(Path(text), spec)) for text in given]
    frames = torch.cat([r.frames for _, r in read])
    return References(
        given=frames,
        source=", ".join(printable(Path(text).name or text, 80) for text, _ in read),
        notes=(
            *_blank(frames),
            *_repeated(frames),
            *(f"{printable(Path(text).name, 80)}: {note}" for text, r in read for note in r.notes),
        ),
    )


def _first(text: str, spec: InputSpec) -> References:
    number = text.removeprefix(_FIRST)
    if not number.isdecimal() or len(number) > _DIGITS or not 1 <= int(number) < spec.frames:
        raise UsageError(
            f"--reference {printable(text, 40)} is not first:K with K from 1 to {spec.frames - 1}",
            f"leave frames of the clip ({spec.frames}) to be recovered, e.g. first:1",
        )
    return References(first=int(number), source=f"first {number} frames of the attacked clip")


def _blank(frames: Clip) -> list[str]:
    count = sum(float(frame.std(dim=(-2, -1)).max()) < BLANK for frame in frames)
    return [f"{count} of {len(frames)} reference frames show a single colour: they tell nothing"] if count else []


def _repeated(frames: Clip) -> list[str]:
    if len(frames) < 2 or any(not torch.equal(frame, frames[0]) for frame in frames[1:]):
        return []
    return [f"all {len(frames)} reference frames are equal: they tell no more than one"]


def copied(references: References, attack: Attack, probe: Probe, gallery: Clips) -> Copied | None:
    """Hold the frames that an attacker has of a probe's scene against the probe, which only the auditor knows."""
    frames = references.held(attack, probe)
    if frames is None:
        return None
    size = (probe.clip.shape[-2], probe.clip.shape[-1])
    level = max(float(psnr(probe.clip, c)) for c in reference_copies(frames, len(probe.clip), size).values())
    blind = max(float(psnr(probe.clip, guess)) for guess in blind_guesses(gallery, size, truth=probe.clip).values())
    return Copied(
        probe=probe.name,
        frames=len(frames),
        psnr=level,
        blind=blind,
        notes=_told(probe.name, len(frames), level, blind),
    )


def _told(probe: str, held: int, level: float, blind: float) -> tuple[str, ...]:
    alone = f"what the reference frames show alone ({held} held)"
    if math.isinf(level):
        return (f"{probe}: {alone} is the clip itself: no finding can rest on them",)
    if level >= EXACT_DB:
        return (f"{probe}: {alone} is the clip to the eye ({level:.1f} dB): no finding can rest on them",)
    if level < blind:
        return (
            f"{probe}: {alone} scores {level:.1f} dB, less than a blind guess ({blind:.1f} dB): "
            "they seem to be of another scene, and may mislead the attack",
        )
    return ()


def each_copied(
    references: References, pairs: Iterable[tuple[Attack, Probe]], galleries: Galleries
) -> tuple[Copied, ...]:
    """Return what references alone score on every attacked probe, for each number of frames that an attacker holds."""
    found: dict[tuple[str, int], Copied] = {}
    for attack, probe in pairs:
        made = copied(references, attack, probe, galleries[probe.name])
        if made is not None:
            found.setdefault((made.probe, made.frames), made)
    return tuple(found.values())
