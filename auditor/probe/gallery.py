"""Real candidates to hide the true clip among: other moments and other views of the same cameras."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from auditor.probe.canary import canary
from auditor.probe.fit import PICTURES, fit, own_window, with_channels
from auditor.probe.real import manifest, shipped_frames
from auditor.probe.scenes import alike
from auditor.probe.texture import moving_texture
from auditor.records import Clip, Clips, InputSpec, Probe, record

# Candidates a gallery; every kind of probe gets as many, so that chance is the same for all trials of an audit.
SIZE = 84
# 70% of each side: the subject usually stays in view, which makes the candidate hard.
_CROP = 0.7
# Seeds of the generated candidates, far from those that people type.
_FIRST_SEED = 7_000_003
_MEMORY_BYTES = 256 * 2**20
# A candidate that is nearer to the truth than an exact reconstruction has to be is the clip itself to the eye.
_SAME_DB = 35.0
# Half a gallery at most is the user's own, so that other scenes remain.
_MOST_OF_FOLDER = 24


@record
class Gallery:
    """Candidates for re-identification, without the truth.

    `clips` has the model's frames and channels; its height and width are smaller than the model's where the whole
    gallery would not fit into 256 MiB.
    """

    names: tuple[str, ...]
    clips: Clips

    def of(self, scene: str) -> tuple[int, ...]:
        """Return the places of the candidates of one scene."""
        return tuple(i for i, name in enumerate(self.names) if name.startswith(f"{scene}/"))


class Galleries:
    """The galleries of several probes, by name; each is made when it is first asked for.

    The shipped candidates are prepared once: real probes share one gallery in memory. Where the model reads what no
    shipped clip can be turned into (flow, depth, heat maps), candidates are views of the user's own clips.
    """

    def __init__(self, spec: InputSpec, probes: Iterable[Probe]) -> None:
        self._spec = spec
        self._probes = {probe.name: probe for probe in probes}
        self._made: dict[str, Gallery] = {}
        self._same_scene: dict[str, tuple[int, ...]] = {}

    def __getitem__(self, name: str) -> Clips:
        return self._gallery(name).clips

    def same_scene(self, name: str) -> tuple[int, ...]:
        """Return the places in a probe's gallery of other moments and other views of its own scene."""
        if name not in self._same_scene:
            own = self._probes[name]
            scene = [name, *(p.name for p in self._folder(own) if alike(own, p))]
            self._same_scene[name] = tuple(sorted(i for each in scene for i in self._gallery(name).of(each)))
        return self._same_scene[name]

    def _gallery(self, name: str) -> Gallery:
        if name not in self._made:
            own = self._probes[name]
            self._made[name] = gallery(self._spec, own, self._shipped, self._folder(own))
        return self._made[name]

    def _folder(self, own: Probe) -> tuple[Probe, ...]:
        """Return the user's other clips beside one of them."""
        if own.kind != "user":
            return ()
        return tuple(p for p in self._probes.values() if p.kind == "user" and p.name != own.name)

    @property
    def _shipped(self) -> Gallery:
        if self._spec.channels in PICTURES:
            return _shipped_gallery(self._spec)
        return _of_users(self._spec, [p for p in self._probes.values() if p.kind == "user"])


@functools.lru_cache(maxsize=1)
def _shipped_gallery(spec: InputSpec) -> Gallery:
    """Return the candidates that are the same for every audit of one input; one gallery stays in memory."""
    return gallery(spec)


def gallery(
    spec: InputSpec, exclude: Probe | None = None, shipped: Gallery | None = None, folder: Sequence[Probe] = ()
) -> Gallery:
    """Return `SIZE` candidates of the same sort as the probe `exclude`, none of them equal to it.

    For real and user clips these are earlier and later windows of every shipped clip and crops of them (the later ones
    mirrored, so that candidates do not repeat one another). Before them come, for a user's clip, other moments of its
    own footage, the user's other clips (`folder`) and crops of the clip itself: a gallery of foreign scenes alone is
    too easy. What looks the same as the user's clip (35 dB) is no other moment and is left out. No candidate is a
    shipped probe itself, whatever `exclude` is. A canary hides among canaries, a texture among textures: among real
    clips its kind alone would give it away. Deterministic. `shipped` is `gallery(spec)`, where that is at hand already.

    Raises
    ------
    AuditError
        A shipped clip is missing or damaged.
    """
    side = _scaled(spec)
    own = None if exclude is None else functional.interpolate(exclude.clip, side, mode="area")
    if shipped is not None and own is not None and exclude is not None and exclude.kind == "real":
        differs = not any(torch.equal(clip, own) for clip in shipped.clips)
        if differs:
            return shipped
    names: list[str] = []
    clips = torch.empty(SIZE, spec.frames, spec.channels, *side)
    for name, candidate in _candidates(spec, exclude, shipped, folder):
        if len(names) == SIZE:
            break
        shown = functional.interpolate(candidate, side, mode="area")
        if own is not None and exclude is not None and _same(shown, own, exclude.kind):
            continue
        clips[len(names)] = shown
        names.append(name)
    return Gallery(names=tuple(names), clips=clips[: len(names)])


def _same(candidate: Clip, own: Clip, kind: str) -> bool:
    if kind != "user":
        return torch.equal(candidate, own)
    return float((candidate - own).double().square().mean()) <= 10 ** (-_SAME_DB / 10)


def _of_users(spec: InputSpec, probes: Sequence[Probe]) -> Gallery:
    """Return views and moments of the users' clips, view after view, so that one cut short keeps every clip."""
    side, each = _scaled(spec), [_views(probe, spec) for probe in probes]
    found = [one for turn in itertools.zip_longest(*each) for one in turn if one is not None][:SIZE]
    clips = [functional.interpolate(clip, side, mode="area") for _, clip in found]
    shape = (0, spec.frames, spec.channels, *side)
    return Gallery(names=tuple(name for name, _ in found), clips=torch.stack(clips) if clips else torch.empty(shape))


def _views(probe: Probe, spec: InputSpec) -> Iterator[tuple[str, Clip]]:
    """Yield views of a clip, and of its first and last four fifths; none is the clip itself."""
    frames = len(probe.native)
    part = frames * 4 // 5
    moments = [("all", 0, frames), ("early", 0, part), ("late", frames - part, part)][: 3 if part else 1]
    for view in _VIEWS:
        for mirrored in (False, True):
            for moment, start, kept in moments:
                if (view, mirrored, moment) != ("whole", False, "all"):
                    shown = fit(_view(probe.native, view, mirrored), spec, start, kept)[0]
                    yield f"{probe.name}/{view}/{moment}{'/mirrored' if mirrored else ''}", shown


def _candidates(
    spec: InputSpec, exclude: Probe | None, shipped: Gallery | None, folder: Sequence[Probe]
) -> Iterator[tuple[str, Clip]]:
    if exclude is not None and exclude.kind in ("canary", "texture"):
        make = canary if exclude.kind == "canary" else moving_texture
        for seed in range(_FIRST_SEED, _FIRST_SEED + 2 * SIZE):
            yield f"{exclude.kind}-{seed}", make(spec, seed).clip
        return
    if exclude is not None and exclude.kind == "user" and spec.channels in PICTURES:
        yield from _moments(exclude)
        yield from itertools.islice(_of_folder(folder), _MOST_OF_FOLDER)
        for view in _VIEWS[1:]:
            for mirrored in (False, True):
                frames = _view(exclude.native, view, mirrored)
                yield f"{exclude.name}/{view}", fit(frames, spec, 0, len(frames))[0]
    if shipped is None:
        yield from _shipped_candidates(spec)
    else:
        yield from zip(shipped.names, shipped.clips, strict=True)


def _moments(probe: Probe) -> Iterator[tuple[str, Clip]]:
    yield from ((f"{probe.name}/moment {i}", clip) for i, clip in enumerate(probe.moments, start=1))


def _of_folder(folder: Sequence[Probe]) -> Iterator[tuple[str, Clip]]:
    """Yield every clip, then the moments of each in turn, so that a gallery cut short keeps every clip."""
    yield from ((f"{probe.name}/whole", probe.clip) for probe in folder)
    for turn in itertools.zip_longest(*(_moments(probe) for probe in folder)):
        yield from (found for found in turn if found is not None)


_VIEWS = ("whole", "centre", "top left", "top right", "bottom left", "bottom right")


def _shipped_candidates(spec: InputSpec) -> Iterator[tuple[str, Clip]]:
    """Yield view after view, so that a gallery cut short keeps every camera."""
    clips = [(entry["name"], with_channels(shipped_frames(entry), spec.channels)) for entry in manifest()]
    for view in _VIEWS:
        for late in (False, True):
            for name, frames in clips:
                # Shorter than the clip, so that earlier and later windows exist for any number of frames.
                length = min(own_window(len(frames), spec.frames)[1], len(frames) * 4 // 5)
                start = len(frames) - length if late else 0
                shown = _view(frames, view, mirrored=late and view != "whole")
                yield f"{name}/{view}/{'late' if late else 'early'}", fit(shown, spec, start, length)[0]


def _view(frames: Clip, view: str, mirrored: bool) -> Float[Tensor, "frame channel rows columns"]:
    height, width = frames.shape[-2:]
    h, w = (height, width) if view == "whole" else (max(1, round(_CROP * height)), max(1, round(_CROP * width)))
    top = 0 if "top" in view else height - h if "bottom" in view else (height - h) // 2
    left = 0 if "left" in view else width - w if "right" in view else (width - w) // 2
    cropped = frames[..., top : top + h, left : left + w]
    return cropped.flip(-1) if mirrored else cropped


def _scaled(spec: InputSpec) -> tuple[int, int]:
    """Return the (height, width) at which SIZE float32 clips fit into memory."""
    full = SIZE * spec.frames * spec.channels * spec.height * spec.width * 4
    shrink = min(1.0, (_MEMORY_BYTES / full) ** 0.5)
    return max(1, int(spec.height * shrink)), max(1, int(spec.width * shrink))
