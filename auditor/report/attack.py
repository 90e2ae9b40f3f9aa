"""What `fl-audit attack` prints for people: one attack on one clip, in a dozen lines."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from auditor.report.figures import content_word, decibels, fixed, tiny
from auditor.report.references import copy_sentence

_LABEL = 14


def attack_summary(document: Mapping[str, Any], folder: str) -> str:
    """Return the outcome, the scores and what they are to be held against; `folder` is where the pictures are."""
    return "\n".join(f"{label:<{_LABEL}}{text}".rstrip() for label, text in _rows(document, folder))


def _rows(d: Mapping[str, Any], folder: str) -> Iterator[tuple[str, str]]:
    score, null, clip = d["score"], d["null"], d["clip"]
    yield "attack", f"{d['attack']['title']} ({d['attack']['name']})"
    yield "clip", f"{clip['name']}, {' x '.join(map(str, clip['shape']))} (frame x channel x height x width)"
    yield (
        "labels",
        f"{label_words(d['labels'])} ({d['knowledge']['labels_from']}); the clip's: {label_words(clip['labels'])}",
    )
    if d["protocol"].get("defence"):
        yield "defence", ", ".join(d["protocol"]["defence"])
    yield "outcome", d["outcome"]["text"]
    yield "cost", f"{d['steps']} steps, {d['seconds']:.1f} s, final objective {tiny(d['objective'])}"
    yield "PSNR", f"{decibels(score['psnr'])}, best frame {decibels(score['psnr_best'])}"
    yield "SSIM", f"{fixed(score['ssim_median'])} in the median frame"
    if score.get("content") is not None:
        word = content_word(score["content"])
        yield "content", f"{fixed(score['content'])} agreement of what moves in the best frame: {word}"
    yield "gain", f"{decibels(score['gain'], signed=True)} over the best blind guess ({d['blind']})"
    if score.get("copy"):
        yield "reference", copy_sentence(score)
    yield from (("note", note) for note in d["attack"].get("reference_notes", ()))
    yield "rank", f"{score['rank']} among {score['gallery']} clips"
    if score["bits"] is not None:
        yield "bits", f"{score['bits']['hits']} of {score['bits']['trials']} read"
    yield "null control", f"{decibels(null['psnr'])} against another clip ({null['clip']}), rank {null['rank']}"
    yield "grade", d["grade"]
    yield from (("certificate", f"{name} {tiny(value)}") for name, value in d["certificate"].items())
    if len(d["clips_psnr"]) > 1:
        yield "whole batch", f"median {decibels(median(map(float, d['clips_psnr'])))} of {len(d['clips_psnr'])} clips"
    if d["curve"]:
        yield "budget curve", ", ".join(f"{decibels(p, unit=False)} after {step}" for step, _, _, p in d["curve"])
    yield from (("note", note) for note in d["notes"])
    yield from _diagnosis(d["diagnosis"])
    yield "files", folder


def _diagnosis(d: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if d is None:
        return
    yield "conclusion", d["conclusion"]["text"]
    yield (
        "at the truth",
        (
            f"the simulated update differs by {tiny(d['update_at_truth'])}, the attacker's objective is "
            f"{tiny(d['objective_at_truth'])}"
        ),
    )
    started = d["truth_started"]
    if started is None:
        yield "from truth", f"not run: {d['because']}"
    else:
        yield (
            "from truth",
            (
                f"the same search started at the true clip ends at {decibels(started['psnr'])}, "
                f"objective {tiny(started['objective'])}"
            ),
        )
    yield "exposure", f"{decibels(d['exposure'])} predicted by linear analysis"


def label_words(labels: Any) -> str:
    """Return labels in words, those of a clip with several joined by a plus."""
    return ", ".join("+".join(map(str, label)) if isinstance(label, list) else str(label) for label in labels)
