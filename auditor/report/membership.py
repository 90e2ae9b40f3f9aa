"""Was this frame in the client's clip? One line for each clip and sort of frame."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from auditor.report.figures import of, percent, real
from auditor.report.language import recorded, say
from auditor.report.pictures import Picture, PictureGallery

_KINDS = {
    "member": "of the client's clip",
    "same camera": "same camera, at another time",
    "other scene": "other scenes",
    "another update": "of the clip, asked of another client's update",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Frames of one sort asked of one clip's update: how far from the span they are, and how many are called members.

    `called` is None where no claim is made; `pictures` are small and may be none.
    """

    clip: Mapping[str, Any]
    first: bool
    title: str
    frames: int
    nearest: Any
    farthest: Any
    called: int | None
    pictures: tuple[Picture, ...]


def membership_rows(results: Mapping[str, Any], gallery: PictureGallery) -> list[Group]:
    """Return the lines of the table; none where nothing was asked."""
    asked = results.get("membership")
    rows: list[Group] = []
    if not asked:
        return rows
    for clip in asked["clips"]:
        groups = [_group(clip, kind, asked["claims"], gallery) for kind in _KINDS]
        kept = [group for group in groups if group is not None]
        rows += [_leading(group) if i == 0 else group for i, group in enumerate(kept)]
    return rows


def membership_sentence(results: Mapping[str, Any]) -> str:
    """Return what may be claimed of single frames, or why nothing is; empty where an older audit never asked."""
    asked = results.get("membership")
    if not asked:
        return ""
    if not asked["clips"]:
        return say("not asked: %(reason)s", reason=recorded(asked["reason"]))
    if not asked["claims"]:
        return say("no claim is made: %(reason)s", reason=recorded(asked["reason"]))
    wrong, right = asked["false_positives"], asked["true_positives"]
    told = say(
        "%(right)s frames of the clips are told, %(wrong)s others are taken for them (stated: %(rate)s at most)",
        right=of(right),
        wrong=of(wrong),
        rate=percent(asked["rate"]),
    )
    few = "" if asked["grade"] != "NOT_SHOWN" else say("too few clips are told to count as shown")
    gap = unmeasured(asked)
    return "; ".join(text for text in (told, f"{gap[:1].lower()}{gap[1:]}".rstrip("."), few) if text)


def unmeasured(asked: Mapping[str, Any]) -> str:
    """Say where errors were not counted on the hardest frames: other times of the same camera."""
    without = [c for c in asked["clips"] if all(f["kind"] != "same camera" for f in c["frames"])]
    if not without:
        return ""
    if len(without) == len(asked["clips"]):
        return say("Errors on frames of the same camera at another time were not measured.")
    return say(
        "Errors on frames of the same camera at another time were not measured for %(n)s of %(all)s clips.",
        n=len(without),
        all=len(asked["clips"]),
    )


def _group(clip: Mapping[str, Any], kind: str, claims: bool, gallery: PictureGallery) -> Group | None:
    frames = [f for f in clip["frames"] if f["kind"] == kind]
    if not frames:
        return None
    known = [d for f in frames if (d := real(f["distance"])) is not None]
    shown = [gallery.picture(f["picture"]) for f in frames]
    return Group(
        clip=clip,
        first=False,
        title=say(_KINDS[kind]),
        frames=len(frames),
        nearest=min(known, default=None),
        farthest=max(known, default=None),
        called=sum(f["claim"] is True for f in frames) if claims else None,
        pictures=tuple(p for p in shown if p is not None),
    )


def _leading(group: Group) -> Group:
    return replace(group, first=True)
