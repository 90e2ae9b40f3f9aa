"""Is what linear analysis predicts reached? Exposure against a search, under noise that is known exactly.

Usage: python benchmarks/calibration.py [--out DIR] [--nets NAME ...] [--clips NAME ...] [--levels 0.03 0.1 0.3]
       python benchmarks/calibration.py --predict | --write [--out DIR]

An update is sent with normal noise (`--defence gaussian:SIGMA`, SIGMA a share of the root mean square of its entries).
Predicted is the PSNR of exposure at that noise and at rounding, at least and at most; reached is that of least squares
with a prior, from grey and given enough steps. Where the two differ by more than 3 dB, what the same linear analysis
says of this very clip in its leading modes tells whether the prior or the search is off. Small nets of the catalogue on
clips of 8x16x16, most of them smooth, fresh weights, one clip an update, one seed. What is done is kept in
DIR/calibration.jsonl; --predict predicts again what is kept there and leaves what was reached; --write makes
docs/calibration.md and docs/calibration.svg of it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402
from architecture_nets import CLIP, NETS, conv3d  # noqa: E402
from architectures import SPEC  # noqa: E402
from calibration_page import NEAR_DB, write  # noqa: E402
from deep_suite import with_statistics  # noqa: E402
from peers import LABEL, clip_of, view_of  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from auditor.attack.registry import LEAST_SQUARES  # noqa: E402
from auditor.exposure import Exposed, JacobianProducts, expose, grams, leading_modes  # noqa: E402
from auditor.exposure.layers import ROUNDING  # noqa: E402
from auditor.federated import observe  # noqa: E402
from auditor.pipeline.scan import pixel_variance  # noqa: E402
from auditor.probe import shipped_probes  # noqa: E402
from auditor.records import Budget, Clip, Reconstruction, View, deviation_of  # noqa: E402
from auditor.score import psnr  # noqa: E402

_CATALOGUE = {name: make for family in NETS.values() for name, make in family.items()}
SMOOTH: dict[str, Callable[[], nn.Module]] = {
    "conv3d-flatten-gelu": _CATALOGUE["conv3d-flatten-gelu"],
    "conv3d-flatten-tanh": lambda: conv3d(nn.Tanh, flatten=True),
    "conv3d-pooled-gelu": _CATALOGUE["conv3d-pooled-gelu"],
    "conv3d-pooled-tanh": lambda: conv3d(nn.Tanh),
    "conv3d-pooled-silu-batchnorm": lambda: conv3d(nn.SiLU, norm="batch"),
    "conv3d-pooled-gelu-groupnorm": lambda: conv3d(nn.GELU, norm="group"),
    "conv3d-pooled-gelu-narrow": lambda: conv3d(nn.GELU, widths=(4, 8, 16)),
    "conv-lstm": _CATALOGUE["conv-lstm"],
    "vivit-learned": _CATALOGUE["vivit-learned"],
    "vivit-fixed": _CATALOGUE["vivit-fixed"],
    "vivit-none": _CATALOGUE["vivit-none"],
    "mixer": _CATALOGUE["mixer"],
}
# With kinks, where a slope holds for a shorter way.
KINKED = {name: _CATALOGUE[name] for name in ("conv3d-flatten-relu", "conv3d-pooled-relu", "residual-3d")}
CLIPS, LEVELS = ("park_walker",), (0.03, 0.1, 0.3)
MODES, PRODUCTS, STEPS = 512, 128, 500


def prepared(name: str, clip_name: str, level: float) -> tuple[View, View, Clip, float, Mapping[str, float]]:
    """Return the view, the view under noise, the clip, the prior's variance of a pixel and the noise by parameter."""
    torch.manual_seed(0)
    made = {**SMOOTH, **KINKED}[name]()
    made.input_shape, made.layout = CLIP, "NCTHW"
    clip = clip_of(clip_name, SPEC)
    view = view_of(with_statistics(made, SPEC).eval(), clip, SPEC)
    entries = torch.cat([g.flatten() for g in view.update.gradients.values()])
    seen = noisy(view, clip, level * float(entries.square().mean().sqrt()))
    variance = pixel_variance(torch.stack([p.clip for p in shipped_probes(SPEC)]))
    return view, seen, clip, variance, deviation_of(seen.client.defences, seen.update.gradients)


def predicted(view: View, clip: Clip, variance: float, deviation: Mapping[str, float]) -> Exposed:
    """Return what exposure predicts at this noise and at rounding."""
    exposed = expose(
        view.client, clip[None], view.client.targets((LABEL,)), view.target.layers, variance, 600.0,
        deviation=deviation, sigma=ROUNDING, products=PRODUCTS,
    )  # fmt: skip
    assert isinstance(exposed, Exposed)
    return exposed


def case(name: str, clip_name: str, level: float) -> dict[str, Any]:
    """Return what is predicted and what is reached of one clip at one level of noise."""
    begun = time.process_time()
    view, seen, clip, variance, deviation = prepared(name, clip_name, level)
    exposed = predicted(view, clip, variance, deviation)
    found = LEAST_SQUARES.invert(seen, Budget(seconds=600.0, steps=STEPS), 0)
    assert isinstance(found, Reconstruction)
    reached = float(psnr(clip, found.clips[0]))
    far = abs(exposed.all.psnr - reached) > NEAR_DB
    return {
        "net": name, "smooth": name in SMOOTH, "clip": clip_name, "level": level, "products": exposed.products,
        "predicted": exposed.all.psnr, "at_most": exposed.all.at_most,
        "reached": reached, "of_this_clip": of_this_clip(view, clip, variance, deviation) if far else None,
        "outcome": found.outcome.name, "steps": found.steps, "seconds": round(time.process_time() - begun, 1),
    }  # fmt: skip


def again(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line that was kept with what is predicted now."""
    view, _, clip, variance, deviation = prepared(line["net"], line["clip"], line["level"])
    exposed = predicted(view, clip, variance, deviation)
    far = abs(exposed.all.psnr - line["reached"]) > NEAR_DB
    return {
        **line, "products": exposed.products, "predicted": exposed.all.psnr, "at_most": exposed.all.at_most,
        "of_this_clip": of_this_clip(view, clip, variance, deviation) if far else None,
    }  # fmt: skip


def noisy(view: View, clip: Clip, sigma: float) -> View:
    """Return the view of the same client, which adds normal noise of this deviation and says so."""
    client = view.client.under(replace(view.client.protocol, defence=(f"gaussian:{sigma:.6g}",)))
    update = observe(client, clip[None], view.client.targets((LABEL,)))
    return replace(view, client=client, update=update, knowledge=replace(view.knowledge, defences=client.defences))


def of_this_clip(view: View, clip: Clip, variance: float, deviation: Mapping[str, float]) -> float:
    """Return the PSNR that a linear attacker with the same prior reaches on this clip in the mean over the noise.

    With P = (D^-1 + G)^-1 the posterior of the leading modes' coefficients c, the error is ||P D^-1 c||^2 + tr(P G P)
    and what of the clip lies outside of the modes, with this clip in place of the prior's mean over clips.
    """
    modes = leading_modes((clip.shape[0], clip.shape[1], clip.shape[2], clip.shape[3]), MODES, variance)
    products = JacobianProducts(view.client, clip[None], view.client.targets((LABEL,)))
    each = {name: [name] for name in products.norms}
    information = sum(
        (gram / deviation[name] ** 2 for name, gram in _grams(products, modes.basis, each).items()),
        start=torch.zeros(MODES, MODES, dtype=torch.float64),
    )
    inverse = torch.diag(1.0 / modes.variance.double())
    posterior = torch.linalg.inv(inverse + information)
    centred = clip.double() - 0.5
    own = torch.einsum("ktchw,tchw->k", modes.basis.double(), centred)
    outside = float(centred.square().sum() - own.square().sum())
    inside = float((posterior @ inverse @ own).square().sum() + (posterior @ information @ posterior).trace())
    return float(-10.0 * torch.log10(torch.tensor((inside + outside) / clip.numel())))


def _grams(products: JacobianProducts, basis: Tensor, groups: Mapping[str, list[str]]) -> dict[str, Tensor]:
    return grams(products, [mode[None] for mode in basis], groups, lambda fraction: None)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    """Run what is not kept yet, or write the page."""
    nets = [*SMOOTH, *KINKED]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("calibration"), metavar="DIR")
    parser.add_argument("--nets", nargs="+", default=nets, choices=nets, metavar="NAME")
    parser.add_argument("--clips", nargs="+", default=CLIPS, metavar="NAME")
    parser.add_argument("--levels", nargs="+", type=float, default=LEVELS)
    parser.add_argument("--predict", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "calibration.jsonl"
    lines = _read(kept)
    if given.write:
        write(lines, LEVELS)
        return
    torch.set_num_threads(1)
    if given.predict:
        made = [again(line) for line in lines if line["net"] in given.nets]
        left = [line for line in lines if line["net"] not in given.nets]
        kept.write_text("".join(json.dumps(line) + "\n" for line in (*made, *left)))
        return
    done = {(line["net"], line["clip"], line["level"]) for line in lines}
    wanted = [(net, clip, level) for level in given.levels for clip in given.clips for net in given.nets]
    for one in (w for w in wanted if w not in done):
        made = case(*one)
        with kept.open("a") as file:
            file.write(json.dumps(made) + "\n")
        print(
            f"{one}: predicted {made['predicted']:.1f}, reached {made['reached']:.1f} dB, {made['seconds']} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
