"""Filmstrips: the same frames of the truth, the reconstruction and the guesses, one under the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.report.figures import decibels, fixed, real
from auditor.report.headline import ranked
from auditor.report.language import recorded, say
from auditor.report.pictures import Picture, PictureGallery

_COLUMNS = 8
MOST_FRAMES = 32
_KINDS = ("original", "reconstruction", "enhanced", "reference", "baseline", "null", "enhanced_null")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmCell:
    """One frame: its picture (None where there is none that may be shown), what it shows, numbers under it."""

    picture: Picture | None
    alt: str
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of picture over all frames of a band; `plain` is its title without a term of the field."""

    kind: str
    title: str
    plain: str
    note: str
    cells: tuple[FilmCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """At most eight frames side by side, so that a face stays large enough to judge."""

    frames: tuple[int, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filmstrip:
    """One reconstruction, shown."""

    title: str
    which: str
    finding: Mapping[str, Any]
    result: Mapping[str, Any]
    bands: tuple[Band, ...]
    enhanced: bool
    left_out: int = 0


def strips_of(
    finding: Mapping[str, Any],
    gallery: PictureGallery,
    payloads: frozenset[str] = frozenset(),
    most: int = MOST_FRAMES,
) -> list[Filmstrip]:
    """Return the strips that stand for a finding, of at most `most` frames.

    The best run on a scene; where something was shown, the median run and the best run on a canary as well. `payloads`
    names the canaries.
    """
    runs = ranked(finding["results"])
    scenes = [r for r in runs if r["probe"] not in payloads] or runs
    chosen = {"best": _first_with_frames(scenes)}
    if finding["grade"] != "NOT_SHOWN":
        chosen["median"] = _first_with_frames(scenes[len(scenes) // 2 :]) if len(scenes) > 2 else None
        chosen["canary"] = _first_with_frames([r for r in runs if r["probe"] in payloads])
    shown: list[Filmstrip] = []
    for which, result in chosen.items():
        if result is not None and all(strip.result is not result for strip in shown):
            shown.append(filmstrip(finding, result, gallery, which, most=most))
    return shown


def _first_with_frames(results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((r for r in results if _has_frames(r)), None)


def filmstrip(
    finding: Mapping[str, Any],
    result: Mapping[str, Any],
    gallery: PictureGallery,
    which: str,
    kinds: Sequence[str] = _KINDS,
    most: int = MOST_FRAMES,
) -> Filmstrip:
    """Return the filmstrip of one result, in bands of eight frames; at most `most` frames, evenly chosen."""
    pictures = result["pictures"]
    places = _evenly(len(pictures["frames"]), most)
    width = _band_width(len(places))
    bands = [
        Band(
            frames=tuple(pictures["frames"][p] for p in chunk),
            rows=tuple(r for k in kinds if (r := _row(k, chunk, result, gallery)) is not None),
        )
        for start in range(0, len(places), width)
        if (chunk := places[start : start + width])
    ]
    return Filmstrip(
        title=f"{finding['title']}: {result['probe']}, seed {result['seed']}",
        which=which,
        finding=finding,
        result=result,
        bands=tuple(bands),
        enhanced=any(row.kind == "enhanced" for band in bands for row in band.rows),
        left_out=len(pictures["frames"]) - len(places),
    )


def _has_frames(result: Mapping[str, Any]) -> bool:
    pictures = result["pictures"]
    return pictures is not None and bool(pictures["frames"]) and bool(pictures["reconstruction"])


def _evenly(count: int, most: int) -> list[int]:
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _band_width(count: int) -> int:
    bands = -(-count // _COLUMNS)
    return -(-count // max(bands, 1)) or 1


def _row(kind: str, places: Sequence[int], result: Mapping[str, Any], gallery: PictureGallery) -> Row | None:
    pictures = result["pictures"]
    strip = pictures.get(kind)
    if not strip:
        return None
    cells = [_cell(kind, p, strip[p] if p < len(strip) else None, result, gallery) for p in places]
    if kind not in ("original", "reconstruction") and all(cell.picture is None for cell in cells):
        return None
    title, note = _titles(kind, result)
    return Row(kind=kind, title=title, plain=_plain(kind), note=note, cells=tuple(cells))


def _titles(kind: str, result: Mapping[str, Any]) -> tuple[str, str]:
    pictures, score = result["pictures"], result["score"]
    if kind == "original":
        return say("Original"), say("the probe")
    if kind == "reconstruction":
        return say("Reconstruction"), say("from the update: %(psnr)s", psnr=decibels(score["psnr"]))
    if kind == "enhanced":
        return say("Enhanced"), say("inferred detail: %(method)s", method=_method(pictures))
    if kind == "reference":
        copy = score.get("copy")
        return say("Reference"), say("frames held, no update") + (f": {decibels(copy['psnr'])}" if copy else "")
    if kind == "baseline":
        name = pictures["baseline_name"] or ""
        level = score["baselines"].get(name)
        told = recorded(name) or say("no update")
        return say("Blind baseline"), f"{told}: {decibels(level)}" if level is not None else told
    if kind == "enhanced_null":
        return say("Enhanced null"), say("painted from another update: %(method)s", method=_method(pictures))
    null = result["null"]
    return say("Null control"), say("another clip's update") + (f": {decibels(null['psnr'])}" if null else "")


def _method(pictures: Mapping[str, Any]) -> str:
    return pictures["enhanced_method"] or say("super-resolution")


def _plain(kind: str) -> str:
    return {
        "original": say("The clip, as the client holds it"),
        "reconstruction": say("Recovered from the update"),
        "baseline": say("A guess without the update"),
    }.get(kind, "")


def _cell(kind: str, place: int, uri: Any, result: Mapping[str, Any], gallery: PictureGallery) -> FilmCell:
    frame = result["pictures"]["frames"][place]
    picture = gallery.picture(uri)
    numbers: tuple[str, ...] = ()
    alt = {
        "original": say("Original, frame %(frame)s of the probe", frame=frame),
        "reconstruction": say("Reconstruction of frame %(frame)s from the update alone", frame=frame),
        "enhanced": say("Frame %(frame)s after super-resolution; detail is inferred", frame=frame),
        "reference": say("What the reference frames show at frame %(frame)s, without the update", frame=frame),
        "baseline": say("Blind guess at frame %(frame)s, made without the update", frame=frame),
        "null": say("What the attack makes of an unrelated update, frame %(frame)s", frame=frame),
        "enhanced_null": say("The null control after the same super-resolution, frame %(frame)s", frame=frame),
    }[kind]
    score = result["null"] if kind == "null" else result["score"]
    if kind in ("reconstruction", "null") and score:
        psnr, ssim = _at(score["psnr_frames"], frame), _at(score["ssim_frames"], frame)
        if psnr is not None:
            numbers = (decibels(psnr), f"SSIM {fixed(ssim)}")
            alt += f": {decibels(psnr)}, SSIM {fixed(ssim)}"
    return FilmCell(
        picture=picture,
        alt=alt if picture else say("%(what)s: no picture that can be shown", what=alt),
        numbers=numbers,
    )


def _at(values: Sequence[Any], frame: int) -> Any:
    return values[frame] if frame < len(values) and real(values[frame]) is not None else None
