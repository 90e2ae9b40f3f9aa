"""Re-identification by what a public network sees: the rank of the true clip among candidates, by embeddings."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from auditor.efficientnet import embedder
from auditor.records import Clip, Clips
from auditor.score.perceptual import seen
from auditor.score.remembered import Remembered

# Every second frame: neighbours look alike, and a gallery of 84 clips is embedded in half the time.
_STRIDE = 2
_SIDE = 64
# The map at a sixteenth of the resolution (block 10), on a grid of 4 x 4: it finds clips under noise of 0.2 or blur of
# 3 pixels in 32, where the 1280 features of the last stage, made for clean pictures, do not (benchmarks/perceptual.py).
_STAGES = 4
_GRID = 4
_FRAMES_AT_ONCE = 16
# Cosines of float32 features closer than this are equal.
_TIE = 1e-6
_BLANK = 1e-6


def embedding_rank(truth: Clip, estimate: Clip, gallery: Float[Tensor, "candidate frame channel rows columns"]) -> int:
    """Return the rank of the truth among itself and the gallery: 1 is on top, `len(gallery) + 1` is last.

    Clips are compared by the cosine of their embeddings less the gallery's mean embedding (what all candidates have in
    common, which a guesser has without the update). A tie counts against the attacker. Truth and estimate are shrunk to
    the gallery's frames. Pixels need a picture in place; an embedding forgives a small shift or another brightness, and
    is the search that an attacker with an off-the-shelf network makes. Where the audited model is built on the same
    network the two are not independent: see docs/metrics.md.

    Raises
    ------
    ValueError
        Truth and estimate differ in shape, or the gallery in frames or channels.
    """
    if truth.shape != estimate.shape or truth.shape[:2] != gallery.shape[1:3]:
        raise ValueError(f"shapes differ: {[tuple(x.shape) for x in (truth, estimate, gallery)]}")
    similar = similarities(truth, estimate, gallery)
    return 1 + int((similar[1:] >= similar[0] - _TIE).sum())


def similarities(truth: Clip, estimate: Clip, gallery: Clips) -> Float[Tensor, " candidate"]:
    """Return the cosine with the truth, then with each candidate, in [-1, 1]; 0 where an embedding is the mean one."""
    candidates = _of_gallery(gallery)
    side = gallery.shape[-2:]
    own = embedding(torch.stack([functional.interpolate(clip.cpu(), side, mode="area") for clip in (truth, estimate)]))
    centred = torch.cat([own, candidates]) - candidates.mean(0)
    length = centred.norm(dim=1, keepdim=True)
    unit = torch.where(length > _BLANK * candidates.shape[1] ** 0.5, centred / length.clamp_min(_BLANK), 0.0)
    return torch.cat([unit[:1], unit[2:]]) @ unit[1]


def embedding(clips: Clips) -> Float[Tensor, "clip feature"]:
    """Return one vector a clip: the network's map of every second frame, unit length at each position, on a grid."""
    frames = clips[:, ::_STRIDE].flatten(0, 1)
    with torch.no_grad():
        parts = [_of_frames(part) for part in torch.split(frames, _FRAMES_AT_ONCE)]
    return torch.cat(parts).reshape(len(clips), -1)


def _of_frames(frames: Clip) -> Float[Tensor, "frame feature"]:
    maps = embedder().stages(seen(frames, _SIDE), _STAGES)[-1]
    return functional.adaptive_avg_pool2d(functional.normalize(maps, dim=1), _GRID).flatten(1)


# 84 candidates take 2 to 10 MB; an audit has a gallery of real clips, one for its canary, and one a clip of the user.
_of_gallery = Remembered(embedding, most=16)
