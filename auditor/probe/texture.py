"""A random band-limited texture that moves at a constant velocity: a clip that nobody has seen before."""

import math

import torch

from auditor.probe.digest import digest
from auditor.records import InputSpec, Probe

_WAVES = 24
# Cycles a frame: coarse enough to survive an 8-pixel blur of a 32-pixel frame, fine enough to show detail.
_BAND = (1, 6)


def moving_texture(spec: InputSpec, seed: int) -> Probe:
    """Return a sum of plane waves with random phase and colour, translating by 1 to 3% of a frame a frame.

    The clip spans [0, 1]. Waves are periodic over the frame, so that the motion is exact at sub-pixel velocities.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    angle, radius = 2 * math.pi * uniform(_WAVES), _BAND[0] + (_BAND[1] - _BAND[0]) * uniform(_WAVES)
    cycles_y, cycles_x = (radius * angle.sin()).round(), (radius * angle.cos()).round()
    heading, speed = 2 * math.pi * uniform(1), 0.01 + 0.02 * uniform(1)
    phase, colour = 2 * math.pi * uniform(_WAVES), uniform(_WAVES, spec.channels) / radius[:, None]

    frame = torch.arange(spec.frames, dtype=torch.float64)
    y = torch.arange(spec.height, dtype=torch.float64) / spec.height - frame[:, None] * speed * heading.sin()
    x = torch.arange(spec.width, dtype=torch.float64) / spec.width - frame[:, None] * speed * heading.cos()
    clip = torch.zeros(spec.clip_shape, dtype=torch.float64)
    for wave in range(_WAVES):
        turn = cycles_y[wave] * y[:, :, None] + cycles_x[wave] * x[:, None, :]
        clip += (2 * math.pi * turn + phase[wave]).cos()[:, None] * colour[wave][None, :, None, None]
    low, high = clip.aminmax()
    clip = ((clip - low) / (high - low).clamp_min(1e-12)).float()
    return Probe(
        name=f"texture-{seed}",
        kind="texture",
        clip=clip,
        native=clip.clone(),
        sha256=digest(clip),
        source=f"generated from seed {seed}",
    )
