"""Audits as far as a comparison reads them, with scores that a test chooses."""

from collections.abc import Mapping, Sequence
from typing import Any

CLIPS = ("park_walker", "treadmill_two", "hand_cup")


def audit(
    gains: Mapping[str, Sequence[float]],
    *,
    word: str = "FAIL",
    blind: float = 15.0,
    clips: Sequence[str] = CLIPS,
    skipped: Sequence[tuple[str, str]] = (),
    counts: bool = True,
    sha256: str = "a" * 64,
) -> dict[str, Any]:
    """Return results with one finding an attack: `gains` are dB over the blind guess by attack, one a clip."""
    return {
        "tool": {"audit_id": "0" * 12, "budget": 10.0, "work": 5.0},
        "model": {"sha256": sha256, "parameters": {"sent_elements": 7}},
        "probes": [{"name": name, "kind": "real"} for name in clips] + [{"name": "canary-0", "kind": "canary"}],
        "controls": [{"passed": True, "kind": "positive", "name": "planted"}],
        "machine_cuts": [],
        "layers": [{"determinacy": {"share": 1.0}}, {"determinacy": {"share": 0.5}}, {"determinacy": None}],
        "exposure": {"all": {"psnr": 20.0}},
        "verdict": {"word": word, "exit_code": {"FAIL": 1, "INCONCLUSIVE": 4}.get(word, 0)},
        "skipped": [
            {"stage": "invert", "what": what, "because": because, "reason": "it was so"} for what, because in skipped
        ],
        "findings": [
            {
                "attack": name,
                "counts": counts,
                "reference_frames": 0,
                "results": [
                    {
                        "probe": clip,
                        "kind": "real",
                        "repetition": 0,
                        "score": {"psnr": blind + gain, "gain": gain, "baselines": {"mean": blind, "grey": 10.0}},
                    }
                    for clip, gain in zip(clips, held, strict=True)
                ],
            }
            for name, held in gains.items()
        ],
    }
