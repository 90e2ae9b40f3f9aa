"""Synthetic results, valid for the schema, in every variant that a report must survive."""

import base64
import io
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from auditor.results.audit import AUDIT
from auditor.results.upgrade import upgraded

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "clips"
SIZE = 32

Frames = list[np.ndarray]

SENTENCES = {
    "FAIL": "Whoever sees one client's update can rebuild the training clip frame by frame and tell whose clip it was.",
    "WARN": "The update tells which of 64 candidate clips was trained on, but no recognisable picture was recovered.",
    "PASS": "No attack in this audit recovered more than a blind guess, and every control behaved as it must.",
    "INCONCLUSIVE": "A positive control did not succeed, so a failed attack proves nothing about this model.",
}
REEXPORT = (
    'torch.onnx.export(model.eval(), (torch.rand(2, 3, 8, 32, 32),), "model.onnx", dynamo=True, optimize=False, '
    'opset_version=20, dynamic_shapes=({0: torch.export.Dim("batch")},))'
)
GRADES = {"FAIL": "EXACT", "WARN": "GIST", "PASS": "NOT_SHOWN", "INCONCLUSIVE": "NOT_SHOWN"}
SEVERITIES = {"FAIL": (9.3, "critical"), "WARN": (4.6, "medium"), "PASS": (0.0, "none"), "INCONCLUSIVE": (0.0, "none")}
EXITS = {"FAIL": 1, "WARN": 0, "PASS": 0, "INCONCLUSIVE": 4}
HOSTILE = (
    "<script>alert(1)</script>",
    "\u202egnp.exe\u202c\u2066bidi\u2069",
    "A" * 1000,
    '"><img src=http://example.com/x onerror=alert(1)>',
    "{{ 7*7 }}{% for %}",
    "[red]markup[/red] \x1b[31mcolour",
    "\ud800 broken",
    "https://example.com/" + "very/" * 60,
)


@lru_cache
def moving_square(frames: int, size: int, start: int = 4) -> tuple[bytes, ...]:
    """A bright square that crosses a shaded ground."""
    return tuple(_scene(size, start + t * size // (2 * frames)).tobytes() for t in range(frames))


def _scene(size: int, left: int) -> np.ndarray:
    rows, columns = np.mgrid[0:size, 0:size] / size
    scene = np.stack([0.25 + 0.5 * rows, 0.35 + 0.3 * columns, 0.6 - 0.3 * rows], axis=-1)
    top = size // 4
    side = size // 3
    scene[top : top + side, left : left + side] = (0.93, 0.85, 0.7)
    scene[top + side // 4 : top + side // 2, left + side // 4 : left + side // 3] = (0.1, 0.1, 0.15)
    return scene.astype(np.float32)


def clip_frames(frames: int, size: int, clip: str | None, offset: int = 0) -> Frames:
    """Frames in [0, 1], from a real clip where it is named and there, generated otherwise."""
    if clip and (CLIPS / f"{clip}.mp4").exists():
        import av

        with av.open(str(CLIPS / f"{clip}.mp4")) as container:
            shown = [f.to_image().resize((size, size), Image.Resampling.BOX) for f in container.decode(video=0)]
        return [np.asarray(shown[(offset + 2 * t) % len(shown)], dtype=np.float32) / 255 for t in range(frames)]
    return [np.frombuffer(b, dtype=np.float32).reshape(size, size, 3) for b in moving_square(frames, size, 4 + offset)]


def data_uri(frame: np.ndarray) -> str:
    """A PNG data URI."""
    stored = io.BytesIO()
    Image.fromarray((np.clip(frame, 0, 1) * 255).round().astype(np.uint8)).save(stored, "PNG")
    return "data:image/png;base64," + base64.b64encode(stored.getvalue()).decode()


def interval(hits: int, trials: int, chance: float) -> dict[str, Any]:
    """A Wilson interval."""
    z = 1.96
    p = hits / trials
    middle = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return {"hits": hits, "trials": trials, "low": low, "high": high, "chance": chance, "method": "Wilson, 95%"}


def retrieval(hits: int) -> dict[str, Any]:
    """How six reconstructions are found among 64 candidates."""
    return {
        "gallery": 64,
        "recall_1": interval(hits, 6, 1 / 64),
        "recall_5": interval(hits, 6, 5 / 64),
        "mean_rank": 1.0 if hits else 33.5,
        "chance_rank": 32.5,
        "tail": 1e-11 if hits else 0.55,
        "independent": True,
    }


def score(grade: str, frames: int, shift: float = 0.0, infinite: bool = False) -> dict[str, Any]:
    """A score that fits a grade."""
    psnr = {"EXACT": 41.3, "RECOGNISABLE": 26.8, "GIST": 17.1, "NOT_SHOWN": 15.4}[grade] + shift
    ssim = {"EXACT": 0.985, "RECOGNISABLE": 0.78, "GIST": 0.31, "NOT_SHOWN": 0.12}[grade]
    shown: list[float | str] = [round(psnr + 1.4 * math.sin(t), 2) for t in range(frames)]
    return {
        "psnr": "inf" if infinite else psnr,
        "psnr_best": "inf" if infinite else psnr + 1.4,
        "psnr_median": psnr,
        "psnr_frames": ["inf"] * frames if infinite else shown,
        "ssim_best": ssim,
        "ssim_median": ssim - 0.01,
        "ssim_frames": [round(ssim - 0.01 * (t % 3), 3) for t in range(frames)],
        "baselines": {"grey": 13.2, "gallery mean": 15.9, "best constant": 14.1},
        "gain": "inf" if infinite else psnr - 15.9,
        "motion": psnr - 4,
        "motion_gain": psnr - 18,
        "rank": 1 if grade in ("EXACT", "RECOGNISABLE") else 9,
        "gallery": 64,
        "motion_correlation": 0.8 if grade == "EXACT" else 0.02,
        "rank_same_scene": 1 if grade in ("EXACT", "RECOGNISABLE") else 7,
        "same_scene": 12,
        "perceptual": {"EXACT": 0.04, "RECOGNISABLE": 0.4, "GIST": 0.9, "NOT_SHOWN": 1.05}[grade],
        "perceptual_blind": 0.93,
        "lpips": None,
        "lpips_blind": None,
        "embedding_rank": 1 if grade in ("EXACT", "RECOGNISABLE") else 40,
        "bits": interval(61, 64, 0.5) if grade != "NOT_SHOWN" else interval(33, 64, 0.5),
    }


def pictures(grade: str, frames: int, size: int, clip: str | None, seed: int, enhanced: bool) -> dict[str, Any]:
    """Filmstrips that look like what the grade says."""
    random = np.random.default_rng(seed)
    original = clip_frames(frames, size, clip)
    noise = {"EXACT": 0.01, "RECOGNISABLE": 0.07, "GIST": 0.2, "NOT_SHOWN": 0.3}[grade]
    keep = {"EXACT": 1.0, "RECOGNISABLE": 0.9, "GIST": 0.35, "NOT_SHOWN": 0.05}[grade]
    mean = np.mean(original, axis=(0, 1, 2), keepdims=False)
    rebuilt = [keep * f + (1 - keep) * mean + noise * random.standard_normal(f.shape) for f in original]
    blind = [np.broadcast_to(mean, f.shape) * 0.9 for f in original]
    null = [mean + 0.25 * random.standard_normal(f.shape) for f in original]
    larger = [
        np.asarray(
            Image.fromarray((np.clip(f, 0, 1) * 255).astype(np.uint8)).resize(
                (size * 2, size * 2), Image.Resampling.LANCZOS
            )
        )
        / 255
        for f in rebuilt
    ]
    return {
        "frames": list(range(frames)),
        "original": [data_uri(f) for f in original],
        "reconstruction": [data_uri(f) for f in rebuilt],
        "enhanced": [data_uri(f) for f in larger] if enhanced else None,
        "baseline": [data_uri(f) for f in blind],
        "null": [data_uri(f) for f in null],
        "reference": [data_uri(original[0])] * frames,
        "enhanced_method": "dat_light x2" if enhanced else None,
        "enhanced_null": [data_uri(f) for f in null] if enhanced else None,
        "baseline_name": "gallery mean",
    }


def copied(reference: bool) -> dict[str, Any]:
    """What the reference frame is by itself, where there is one."""
    if not reference:
        return {}
    return {
        "copy": {
            "psnr": 19.4, "gain": 2.2, "motion_gain": 0.0, "motion_beyond": 0.4, "followed": 0.2, "pasted": False,
            "bits": None,
        }
    }  # fmt: skip


def membership(frame: str | None, claims: bool = True) -> dict[str, Any]:
    """Frames of one clip and others, asked of its update."""
    counted = {"method": "Clopper-Pearson, 95%", "chance": 0.05}
    kinds = (("member", 1e-5, True), ("same camera", 0.01, False), ("other scene", 0.2, False))
    return {
        "rule": "frame-membership",
        "reason": "" if claims else "2 of 6 frames that were not in the clip (same camera) would be called members",
        "claims": claims,
        "grade": "GIST" if claims else "NOT_SHOWN",
        "null_at_chance": True,
        "rate": 0.05,
        "batch": 1,
        "precision": "float32",
        "false_positives": {"hits": 0, "trials": 66, "low": 0.0, "high": 0.0544, **counted},
        "true_positives": {"hits": 24, "trials": 24, "low": 0.8575, "high": 1.0, **counted},
        "null": {"hits": 0, "trials": 24, "low": 0.0, "high": 0.1425, **counted},
        "clips_found": {"hits": 3, "trials": 3, "low": 0.2924, "high": 1.0, **counted},
        "clips": [
            {
                "probe": "park_walker", "weight": "rnn.weight_ih_l0", "rank": 8, "rows": 8, "complete": True,
                "noise": 1e-7, "threshold": 0.0022, "calibrated": True,
                "calibration": {"hits": 0, "trials": 30, "low": 0.0, "high": 0.1157, **counted},
                "frames": [
                    {"kind": kind, "distance": d, "claim": claim if claims else None, "picture": frame}
                    for kind, d, claim in kinds for _ in range(3)
                ],
            }
        ],
    }  # fmt: skip


def references() -> dict[str, Any]:
    """One frame that the user gave, of another size, and of another scene for one clip."""
    return {
        "source": "lobby.png",
        "given": True,
        "frames": 1,
        "notes": ["lobby.png: resized from 720x1280 to the model's 32x32"],
        "copies": [{"probe": "park_walker", "frames": 1, "psnr": 19.4, "blind": 15.9}],
    }


def result(
    probe: str,
    seed: int,
    grade: str,
    frames: int,
    size: int,
    clip: str | None,
    infinite: bool,
    solved: bool,
    reference: bool = False,
) -> dict[str, Any]:
    """One attack on one probe with one seed."""
    trace = [[s, s * 0.013, 0.9 * math.exp(-s / 90) + 0.002] for s in range(0, 501, 25)]
    return {
        "probe": probe,
        "seed": seed,
        "outcome": {"code": "SOLVED", "text": "solved in closed form, and the solution reproduces the update"}
        if solved
        else {
            "code": "OUT_OF_BUDGET",
            "text": "the budget ended while the objective was still falling: more time may recover more",
        },
        "objective": 0.0052,
        "trace": [] if solved else trace,
        "steps": 0 if solved else 500,
        "seconds": 6.5,
        "restart_objectives": [0.0052, 0.0077],
        "certificate": {"relative residual": 3.1e-7} if solved else {},
        "labels": [3],
        "notes": [],
        "grade": grade,
        "score": score(grade, frames, shift=-0.6 * seed, infinite=infinite and seed == 0) | copied(reference),
        "null": score("NOT_SHOWN", frames),
        "enhanced": [
            {
                "method": "dat_light",
                "scale": 2,
                "psnr": 24.1,
                "ssim": 0.71,
                "gain_over_bicubic": 0.6,
                "rank": 1,
                "null": {"psnr": 13.0, "ssim": 0.11, "rank": 31, "sharpness": 0.04, "perceptual": 0.9},
                "null_gain": 0.1,
                "sharpness": 0.06,
                "perceptual": 0.31,
                "embedding_rank": 1,
                "added": {"word": "recovered detail", "sentence": "+0.6 dB over bicubic, +0.1 dB on the null."},
                "seconds": 0.9,
            },
            # As versions before wrote it.
            {"method": "old", "scale": 2, "psnr": 23.5, "ssim": 0.7, "gain_over_bicubic": 0.0, "rank": 1, "null": None},
        ],
        "pictures": pictures(grade, frames, size, clip, seed, enhanced=True),
    }


def finding(index: int, grade: str, frames: int, size: int, clip: str | None, infinite: bool) -> dict[str, Any]:
    """One attack's finding over two probes and three seeds."""
    names = (
        ("patch_embedding", "Patch embedding read back in closed form", "derived; after APRIL (arXiv 2112.14087)"),
        (
            "surrogate_curvature",
            "Gradient matching with surrogate gradient",
            "after Geiping et al. (arXiv 2003.14053)",
        ),
        ("reference_frame", "Gradient matching from one reference frame", "after Rasul et al. (arXiv 2509.09742)"),
        ("frame_span", "Frame membership from the span of a shared weight", "derived"),
    )
    attack, title, source = names[index % len(names)]
    band = {"EXACT": "critical", "RECOGNISABLE": "high", "GIST": "medium", "NOT_SHOWN": "none"}[grade]
    return {
        "id": f"FLA-{index + 1:03d}",
        "rule": f"reconstruction/{attack}",
        "attack": attack,
        "title": title,
        "source": source,
        "grade": grade,
        "severity": {
            "score": {"critical": 9.3, "high": 7.6, "medium": 4.6, "none": 0.0}[band],
            "band": band,
            "vector": "F:1.00/P:0.85/R:1.00",
        },
        "threat_model": "C",
        "reference": "R1" if attack == "reference_frame" else "R0",
        "assumes": ["sees one client's update", "knows the public model", "knows the batch size and the loss"],
        "summary": {
            "EXACT": "Every pixel of the clip was recovered, and the attacker can prove it without seeing the clip.",
            "RECOGNISABLE": "The recovered frames show the person and the room; a viewer picks the clip out of 64.",
            "GIST": "The recovered frames carry more than chance about the clip, but no recognisable picture.",
            "NOT_SHOWN": "Nothing above a blind guess was recovered within the budget.",
        }[grade],
        "null_at_chance": True,
        "recall": interval(6 if grade in ("EXACT", "RECOGNISABLE") else 1, 6, 1 / 64),
        "bits": interval(61, 64, 0.5) if grade != "NOT_SHOWN" else None,
        "faces": {
            "probe": "park_walker",
            "threshold": 0.6,
            "false_accept": 0.0124,
            "reconstruction": {"distance": 0.41, "same": True, "truth_faces": 2, "faces": 1, "reason": ""},
            "null": {
                "distance": None,
                "same": None,
                "truth_faces": None,
                "faces": None,
                "reason": "no face was found in the reconstruction",
            },
        },
        "retrieval": {
            "pixels": retrieval(6 if grade in ("EXACT", "RECOGNISABLE") else 0),
            "embedding": retrieval(5 if grade in ("EXACT", "RECOGNISABLE") else 0) | {"independent": False},
            "null pixels": retrieval(0),
            "null embedding": None,
        },
        "results": [
            result(
                probe,
                seed,
                grade,
                frames,
                size,
                clip,
                infinite,
                attack == "patch_embedding",
                attack == "reference_frame",
            )
            for probe in ("park_walker", "canary_blocks")
            for seed in (0, 1, 2)
        ],
    }


def layer(index: int, total: int) -> dict[str, Any]:
    """One layer; norms are not measured, the last third of a big model is not sent."""
    kind = ("conv3d", "norm", "conv3d", "linear", "position-embedding")[index % 5]
    depth = index / max(total - 1, 1)
    measured = kind != "norm"
    psnr = 37.0 - 19 * depth + 3 * math.sin(index)
    return {
        "index": index,
        "name": f"blocks.{index // 5}.{kind.replace('-', '_')}{index % 5}",
        "kind": kind,
        "parameters": [f"blocks.{index // 5}.{index % 5}.weight", f"blocks.{index // 5}.{index % 5}.bias"],
        "elements": 864 * (index + 1),
        "sent": index % 7 != 6,
        "rows": 1 if kind == "linear" else None,
        "input_shape": [1, 3, 8, 32, 32],
        "output_shape": [1, 16, 8, 32, 32],
        "exposure": {"psnr": psnr, "ceiling": psnr + 12, "prior": 14.2, "sigma": 0.05} if measured else None,
        "flags": ["a batch of one clip exposes the input of this layer in closed form"] if kind == "linear" else [],
        "reason": None if measured else "its gradient depends on the clip through two numbers a channel only",
    }


def what_if(audited: str) -> list[dict[str, Any]]:
    """Architecture choices, one of them skipped; the audited protocol has the audit's own grade."""
    rows = (
        ("as audited", "Nothing: the protocol that was audited.", True, 38.1, None, 41.3, 25.4, None, audited),
        (
            "batch of 4",
            "Average the gradients of 4 clips before sending.",
            False,
            27.9,
            -10.2,
            19.2,
            3.3,
            -22.1,
            "GIST",
        ),
        (
            "head only",
            "Freeze the backbone; send the classifier only.",
            False,
            16.0,
            -22.1,
            15.7,
            -0.2,
            -25.6,
            "NOT_SHOWN",
        ),
        ("average pooling", "Pool over time before the classifier.", False, 38.6, 0.5, 43.0, 27.1, 1.7, "EXACT"),
    )
    keys = ("name", "change", "baseline", "exposure_psnr", "delta_exposure", "psnr", "gain", "delta_gain", "grade")
    table = [
        dict(zip(keys, row, strict=True)) | {"attack": "patch_embedding", "steps": 300, "skipped": None} for row in rows
    ]
    empty = dict.fromkeys(("exposure_psnr", "delta_exposure", "psnr", "gain", "delta_gain", "grade", "attack", "steps"))
    why = skipped(
        "what-if", "DP noise 0.01", "out-of-budget", "the time for the audit was used up", "give --max-time 1200"
    )
    table.append({"name": "noise 0.01", "change": "Add Gaussian noise.", "baseline": False, **empty, "skipped": why})
    return table


def skipped(stage: str, what: str, because: str, reason: str, remedy: str) -> dict[str, str]:
    """A skipped unit."""
    return {"stage": stage, "what": what, "because": because, "reason": reason, "remedy": remedy}


def controls(failed: bool) -> list[dict[str, Any]]:
    """Five controls; the positive one can fail, one did not run."""
    positive = 12.1 if failed else 93.2
    return [
        _control(
            "closed form on a known linear layer",
            "positive",
            not failed,
            positive,
            "at least 60 dB",
            "proves that a leak would be seen",
        ),
        _control("tiny net known to leak", "positive", True, 31.9, "at least 25 dB", "proves that the optimiser works"),
        _control(
            "update of another clip",
            "null",
            True,
            0.3,
            "gain below 1 dB",
            "proves that a picture comes from the update",
        ),
        _control(
            "guess without an update",
            "blind",
            True,
            "15.9 dB",
            "the level that an attack must pass",
            "sets the level of chance",
        ),
        _control(
            "objective at the truth", "simulation", None, None, "0", "needs double backward through every operator"
        ),
    ]


def _control(name: str, kind: str, passed: bool | None, measured: Any, expected: str, why: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "passed": passed,
        "measured": measured,
        "expected": expected,
        "why": why,
        "attack": "surrogate_curvature" if kind != "blind" else None,
    }


def _labels_read(told: bool) -> dict[str, Any]:
    """All labels read off the updates, or none: a severity of zero goes with none."""
    return {"interval": interval(6 if told else 0, 6, 0.1), "grade": "GIST" if told else "NOT_SHOWN"}


def recovery(row: dict[str, Any]) -> dict[str, Any]:
    """What attacks made of a layer; the third gave more than it exposes."""
    exposed = (row["exposure"] or {}).get("psnr", 20.0)
    shown = exposed + 9.0 if row["index"] == 2 else max(14.0, exposed - 6.0)
    return {
        "alone": _part("least-squares-matching", shown, "RECOGNISABLE" if row["index"] == 2 else "NOT_SHOWN"),
        "without": None if row["index"] == 1 else _part("layer-recursion", 30.0 - row["index"], "RECOGNISABLE"),
        "reason": "nothing else is sent" if row["index"] == 1 else "",
    }


def _part(attack: str, psnr: float, grade: str, lowest: str = "") -> dict[str, Any]:
    return {"attack": attack, "psnr": psnr, "gain": psnr - 14.0, "grade": grade, "steps": 200, "lowest": lowest}


def most_like() -> dict[str, Any]:
    """The net of the catalogue that a sample is most like."""
    return {
        "net": "vivit-learned", "family": "tokens", "nets": 6, "parameters": 114442, "clips": 1,
        "attack": "patch-embedding", "psnr": 112.0, "grade": "EXACT", "date": "2026-11-29",
    }  # fmt: skip


def layer_attacks(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How the layers of a sample were attacked, and the two that are worth keeping back."""
    names = [row["name"] for row in rows[:2]]
    after = _part("least-squares-matching", 17.2, "NOT_SHOWN")
    return {
        "probe": "park_walker",
        "steps": 200,
        "attacked": len(rows),
        "of": len(rows) + 3,
        "whole": _part("layer-recursion", 33.0, "RECOGNISABLE"),
        "ranks": {"determined": None, "exposed": 0.66, "gradient": -0.2, "reason": "shares order nothing"},
        "withholding": {
            "layers": names,
            "elements": 4000,
            "share": 0.04,
            "before": _part("layer-recursion", 35.0, "RECOGNISABLE", "layer1.0.conv1.weight"),
            "after": after,
            "steps": [{"layers": names[:1], "left": _part("layer-recursion", 28.0, "RECOGNISABLE"), "share": 0.01,
                       "strict": False},
                      {"layers": names, "left": _part("layer-recursion", 15.0, "NOT_SHOWN"), "share": 0.04,
                       "strict": False},
                      {"layers": names, "left": after, "share": 0.04, "strict": True}],
            "sentence": f"Keep back {', '.join(names)}.",
            "probes": ["park_walker", "treadmill_two"],
            "trainable": ["head.*", "stem.*"],
            "smallest": True,
        },
        "reason": "the work held some of them",
    }  # fmt: skip


def sample_results(
    verdict: str = "FAIL",
    layers: int = 12,
    *,
    grade: str | None = None,
    frames: int = 8,
    size: int = SIZE,
    clip: str | None = None,
    exposed: bool = True,
    whatif: bool = True,
    infinite: bool = False,
    findings: int = 3,
) -> dict[str, Any]:
    """Results for one audit, as schema 1 had them, upgraded; see `VARIANTS` for the ones that the tests render."""
    grade = grade or GRADES[verdict]
    weaker = {"EXACT": "RECOGNISABLE", "RECOGNISABLE": "GIST"}.get(grade, "NOT_SHOWN")
    grades = [grade, weaker] + ["NOT_SHOWN"] * max(findings - 2, 0)
    value, band = SEVERITIES[verdict]
    rows = [layer(i, layers) for i in range(layers)]
    attacked = whatif and bool(rows) and verdict == "FAIL"
    for row in rows if attacked else ():
        row["gradient"], row["recovery"] = 0.01 * (1 + row["index"]), recovery(row)
    if not exposed:
        for row in rows:
            row["exposure"], row["reason"] = None, "the model has an operator without a second derivative"
    written = {
        "schema": "fl-audit/results/1",
        "references": references(),
        "membership": membership(data_uri(np.full((8, 8, 3), 0.5)), claims=verdict in ("FAIL", "WARN")),
        "tool": {
            "name": "fl-audit",
            "version": "0.1.0",
            "audit_id": "7c2f91d4a0be",
            "started": "2025-11-22T15:34:05Z",
            "seconds": 412.6,
            "preset": "standard",
            "seed": 0,
            "command": ["fl-audit", "scan", "tracker.onnx", "--max-time", "600", "-o", "report.pdf"],
            "max_time": 600,
        },
        "model": {
            "name": "tracker.onnx",
            "source": "models/tracker.onnx",
            "format": "onnx",
            "sha256": "9f2c1e" + "ab" * 29,
            "classes": 10,
            "input": {
                "frames": frames,
                "channels": 3,
                "height": size,
                "width": size,
                "layout": "NCTHW",
                "mean": [0.45, 0.45, 0.45],
                "std": [0.225, 0.225, 0.225],
                "value_range": [0.0, 1.0],
                "origin": "read from the model",
            },
            "parameters": {"tensors": 24, "elements": 1843210, "sent_tensors": 20, "sent_elements": 1643210},
            "operators": {"Conv": 6, "Relu": 6, "Gemm": 2, "GlobalAveragePool": 1},
            "fidelity": {
                "parity_max_error": 3.1e-6,
                "gradient_check": 4.2e-7,
                "double_backward": True,
                "batchnorm": "folded",
                "batch": "unfrozen",
                "upper_bound": True,
                "notes": [
                    "Weights in float16 were converted to float32.",
                    f"Batch normalisation was merged into other weights at export. Export again with {REEXPORT}.",
                ],
                "origin": "ONNX, opset 20, written by pytorch 2.15.0",
                "semantics": "eval",
                "batchnorm_evidence": "recognised by biases that the exporter made: onnx::Conv_27, onnx::Conv_30",
                "parity": {"1": 3.1e-6, "2": 2.8e-6},
                "missing": [],
                "reexport": REEXPORT,
            },
        },
        "protocol": {
            "algorithm": "FedSGD",
            "batch": 1,
            "loss": "cross-entropy",
            "labels": "distinct",
            "batchnorm": "eval",
            "trainable": ["*"],
            "threat_model": {
                "id": "C",
                "title": "Honest but curious: public model and training details",
                "assumes": [
                    "sees one client's update before aggregation",
                    "knows the model and its weights",
                    "knows loss, batch size and learning rate",
                ],
                "out_of_scope": [
                    "a server that changes the model",
                    "secure aggregation",
                    "updates over several rounds",
                ],
            },
        },
        "probes": [
            _probe("park_walker", "real", frames, size, "Sports2D demo video", "BSD-3-Clause"),
            _probe("canary_blocks", "canary", frames, size, "generated", "Apache-2.0"),
        ],
        "controls": controls(failed=verdict == "INCONCLUSIVE"),
        "findings": [finding(i, g, frames, size, clip, infinite) for i, g in enumerate(grades[:findings])],
        "labels": {"rule": "iDLG", **_labels_read(value > 0.0), "reason": None},
        "exposure": {
            "all": {
                "psnr": 38.1,
                "ceiling": 51.0,
                "prior": 14.2,
                "sigma": 0.05,
                "cap": None,
                "determined": 0.99,
                "at_most": 40.2,
            }
            if exposed
            else None,
            "modes": 24576 if exposed else None,
            "coverage": 1.0 if exposed else None,
            "sigma": 0.05 if exposed else None,
            "reason": None if exposed else "the model has an operator without a second derivative",
            "rank_correlation": 0.66 if exposed else None,
            "probe": "park_walker" if exposed else None,
            "products": 64 if exposed else None,
        },
        "layers": rows,
        "layer_attacks": layer_attacks(rows) if attacked else None,
        "most_like": most_like() if attacked else None,
        "what_if": what_if(grade) if whatif else [],
        "skipped": [
            skipped(
                "attack", "SPEAR", "not-applicable", "the model has no fully connected ReLU layer at its input", ""
            ),
            skipped(
                "attack",
                "reference_frame on park_walker, seed 2",
                "out-of-budget",
                "the time was used up",
                "give --max-time 1200",
            ),
        ],
        "verdict": {
            "word": verdict,
            "sentence": SENTENCES[verdict],
            "reasons": ["2 of 3 attacks passed the blind baseline", "null control at chance"],
            "gate": {"fail_on": "high", "passed": verdict in ("PASS", "WARN")},
            "exit_code": EXITS[verdict],
        },
        "severity": {
            "score": value,
            "band": band,
            "vector": "F:1.00/P:0.85/R:1.00" if value else "F:0.00/P:0.85/R:0.00",
            "formula": "10 x fidelity x precondition x (0.7 + 0.3 x reach)",
            "inputs": {
                "fidelity": {"value": 1.0 if value else 0.0, "meaning": "best reconstruction against chance"},
                "precondition": {"value": 0.93, "meaning": "how little the attacker must hold"},
                "reach": {"value": 1.0 if value else 0.0, "meaning": "share of probes and seeds"},
            },
        },
        "confidence": {"level": "medium", "reasons": ["3 seeds and 2 probes", "an export with folded BatchNorm"]},
        "actions": [
            {
                "text": "Train only the classifier head; keep the backbone frozen and local.",
                "effect": "lowers the gain of the best attack by 25.6 dB, to the level of a blind guess",
            },
            {"text": "Send updates of at least 4 clips.", "effect": "lowers the gain of the best attack by 22.1 dB"},
            {
                "text": "Aggregate updates securely, so that nobody sees a single client's update.",
                "effect": "not measured",
            },
            {"text": "Export with BatchNorm kept, and audit again.", "effect": "not measured"},
        ],
        "environment": {
            "python": "3.12.3",
            "torch": "2.15.0",
            "onnx": "1.23.0",
            "onnxruntime": "1.24.1",
            "platform": "Linux-6.8-x86_64",
            "device": "cpu",
            "threads": 2,
            "cores": 2,
            "deterministic": True,
        },
    }
    return upgraded(written, AUDIT)


def _probe(name: str, kind: str, frames: int, size: int, source: str, licence: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "sha256": "5e" * 32,
        "shape": [frames, 3, size, size],
        "native_shape": [frames, 3, 160, 160],
        "source": source,
        "licence": licence,
        "label": 3,
    }


def hostile_results() -> dict[str, Any]:
    """Every free text is an attack on the report itself."""
    results = sample_results("FAIL", layers=10, findings=2)
    turn = iter(range(10**9))

    def poison(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {k: poison(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [poison(v, key) for v in value]
        words = ("inf", "member", "same camera", "other scene")
        fixed = (
            "schema",
            "word",
            "grade",
            "band",
            "level",
            "started",
            "original",
            "reconstruction",
            "enhanced",
            "baseline",
            "null",
            "enhanced_null",
            "because",
            "layout",
        )
        return (
            HOSTILE[next(turn) % len(HOSTILE)]
            if isinstance(value, str) and key not in fixed and value not in words
            else value
        )

    poisoned = dict(poison(results, ""))
    poisoned["model"]["name"] = HOSTILE[2]
    poisoned["findings"][0]["results"][0]["pictures"]["original"][0] = "http://example.com/x.png"
    poisoned["findings"][0]["results"][0]["pictures"]["original"][1] = "data:image/svg+xml;base64,AAAA"
    poisoned["findings"][0]["results"][0]["pictures"]["original"][2] = "data:image/png;base64,AAAA"
    poisoned["environment"]['<b onclick="x()">'] = "javascript:alert(1)"
    return poisoned


def sparse_results() -> dict[str, Any]:
    """Null wherever the schema permits it, empty lists elsewhere."""
    results = sample_results("INCONCLUSIVE", layers=3, exposed=False, whatif=False)
    for found in results["findings"]:
        found |= {"recall": None, "bits": None, "null_at_chance": None, "assumes": []}
        found["severity"]["score"] = None
        for one in found["results"]:
            one |= {"score": None, "null": None, "objective": None, "trace": [], "pictures": None, "enhanced": []}
            one |= {"seconds": None, "labels": [], "restart_objectives": [], "certificate": {}}
    results["labels"] = {"rule": None, "interval": None, "grade": None, "reason": "the loss is not cross-entropy"}
    results["model"]["fidelity"] |= {"parity_max_error": None, "gradient_check": None, "double_backward": None}
    results["model"]["classes"] = None
    results["tool"] |= {"seconds": None, "preset": None, "seed": None, "max_time": None, "command": []}
    for probe in results["probes"]:
        probe |= {"native_shape": None, "licence": None}
    for control in results["controls"]:
        control |= {"passed": None, "measured": None, "expected": None, "attack": None}
    for row in results["layers"]:
        row |= {"rows": None, "input_shape": None, "output_shape": None}
    results["verdict"]["gate"]["passed"] = None
    results["severity"]["score"] = None
    return results | {"actions": [], "skipped": []}


def empty_results() -> dict[str, Any]:
    """Nothing ran at all."""
    results = sparse_results()
    return results | {"findings": [], "layers": [], "controls": [], "probes": [], "what_if": [], "environment": {}}


VARIANTS = {
    "fail": lambda: sample_results("FAIL"),
    "warn": lambda: sample_results("WARN", frames=4, findings=1),
    "pass": lambda: sample_results("PASS", frames=4, findings=1),
    "inconclusive": lambda: sample_results("INCONCLUSIVE", frames=4, findings=2),
    "not_exposed": lambda: sample_results("PASS", frames=2, findings=1, exposed=False, whatif=False),
    "deep": lambda: sample_results("FAIL", layers=150, frames=16, findings=1),
    "hostile": hostile_results,
    "infinite": lambda: sample_results("FAIL", frames=4, findings=1, infinite=True),
    "sparse": sparse_results,
    "empty": empty_results,
}
