"""DAT-light, a super-resolution transformer whose weights ship with the package."""

import functools
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auditor.enhance.fusion import denoised, register
from auditor.enhance.interface import Enhanced
from auditor.errors import AuditError
from auditor.records import Clip, charged, work_of

_WEIGHTS = Path(__file__).parent / "weights"
# Pixels enlarged at once (4 frames of 32 x 32): larger batches leave the cache and take twice as long a pixel on a CPU.
_BATCH_PIXELS = 4 * 32 * 32
# On a GPU small batches leave it idle: as many frames of 128 x 128, in about 1 GB.
_BATCH_PIXELS_ON_GPU = 16 * _BATCH_PIXELS
# Longest side that is tried for an estimate (1.7 s a frame on two cores); beyond it, work is linear in pixels.
_LONGEST_TRIED = 128
# Windows of 8 x 32 pixels: the network pads frames to a multiple of 32.
_TILE = 32


class DatLight:
    """Enlarges a clip frame by frame with DAT-light ("Dual Aggregation Transformer", Chen et al., ICCV 2023).

    Trained on DIV2K photographs; it invents plausible detail, so it must be run on the null control as well. It was
    trained on clean frames and sharpens noise, so frames are averaged with their registered neighbours before, as far
    as the clip itself is noisy (see `fusion`; nothing but the clip is looked at). Weights load at the first call.

    Parameters
    ----------
    scale
        2 or 4.
    register_first
        Average registered frames before enlarging; False is the network alone.

    Raises
    ------
    AuditError
        Another scale; at the first call: spandrel or torchvision is missing or broken, or the weights do not fit.
    """

    name = "DAT-light"

    def __init__(self, scale: int, *, register_first: bool = True) -> None:
        if scale not in (2, 4):
            raise AuditError(f"no DAT-light weights for scale {scale}", "choose 2 or 4")
        self.scale, self.register_first = scale, register_first

    def __repr__(self) -> str:
        return f"DatLight(scale={self.scale}, register_first={self.register_first})"

    def __call__(self, clip: Clip) -> Enhanced:
        """Return (frame, channel, scale * height, scale * width) in [0, 1].

        One channel is enlarged as grey RGB and averaged back; other numbers than 1 and 3 are an AuditError.
        """
        network = _network(self.scale).to(clip.device)
        start = time.monotonic()
        channels, height, width = clip.shape[1:]
        if channels not in (1, 3):
            raise AuditError(f"DAT-light enlarges 1 or 3 channels, not {channels}", "use bicubic")
        clip = clip.detach().float().clamp(0, 1)
        if self.register_first and len(clip) > 1:
            clip = denoised(clip, register(clip))
        pixels = _BATCH_PIXELS if clip.device.type == "cpu" else _BATCH_PIXELS_ON_GPU
        batches = torch.split(clip, _batch(height, width, pixels))
        with torch.inference_mode():
            parts = [network(batch.expand(-1, 3, -1, -1)) for batch in batches]
        enlarged = torch.cat(parts).clamp(0, 1)
        if channels == 1:
            enlarged = enlarged.mean(1, keepdim=True)
        return Enhanced(method=self.name, scale=self.scale, clip=enlarged, seconds=time.monotonic() - start)

    def seconds_estimate(self, clip_shape: tuple[int, ...]) -> float:
        """Return the work of a clip of (frame, channel, height, width) in reference seconds.

        That of a batch is counted (sides cut at 128 pixels) and scaled by the number of pixels, in which it is linear.
        """
        frames, _, height, width = clip_shape
        tried = min(height, _LONGEST_TRIED), min(width, _LONGEST_TRIED)
        part = min(frames, _batch(*tried))
        seconds = _work(self.scale, part, *tried)
        return seconds * frames / part * _padded(height, width) / _padded(*tried)


@functools.cache
def _work(scale: int, frames: int, height: int, width: int) -> float:
    enlarge = DatLight(scale)
    frame = torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(0))
    with charged(0.0):  # weights load once in a process
        _network(scale)
    return work_of(lambda: enlarge(frame))


def _batch(height: int, width: int, pixels: int = _BATCH_PIXELS) -> int:
    return max(1, pixels // (height * width))


def _padded(height: int, width: int) -> int:
    return -(-height // _TILE) * _TILE * (-(-width // _TILE) * _TILE)


@functools.cache
def _network(scale: int) -> Any:
    try:
        from safetensors.torch import load_file
        from spandrel.architectures.DAT import DAT
    except (ImportError, RuntimeError, OSError) as error:
        # A torchvision of another build than torch fails with RuntimeError while it registers its operators.
        raise AuditError(
            "super-resolution needs spandrel and a torchvision that matches torch",
            "reinstall both: pip install --force-reinstall torch torchvision spandrel",
        ) from error
    with warnings.catch_warnings():
        # spandrel 0.4.2 calls meshgrid without `indexing`, which means what it should; only the notice is unwanted.
        warnings.filterwarnings("ignore", message="torch.meshgrid", category=UserWarning)
        network = DAT(
            embed_dim=60,
            split_size=[8, 32],
            depth=[18],
            num_heads=[6],
            expansion_factor=2,
            resi_connection="3conv",
            upsampler="pixelshuffledirect",
            upscale=scale,
            img_range=1.0,
        )
    try:
        weights: dict[str, Tensor] = load_file(_WEIGHTS / f"dat_light_x{scale}.safetensors")
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except Exception as error:
        raise AuditError("the shipped DAT-light weights cannot be read", "reinstall fl-audit") from error
    # The constructor rebuilds buffers (attention masks, indices); the file leaves them out.
    if unexpected or not set(missing) <= {name for name, _ in network.named_buffers()}:
        raise AuditError("the DAT-light weights do not fit spandrel's DAT", "install spandrel 0.4")
    _remember_masks(network)
    return network.eval().requires_grad_(False)


def _remember_masks(network: Any) -> None:
    """Let the network's blocks, whose windows are alike, make the masks of shifted windows once a size of frames."""
    blocks = [block for block in network.modules() if hasattr(block, "calculate_mask")]
    masks = functools.lru_cache(maxsize=1)(blocks[0].calculate_mask)

    def remembered(height: int, width: int, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        with charged(0.0):  # or work would depend on what was enlarged before
            found: tuple[Tensor, Tensor] = masks(height, width, dtype)
            return found

    for block in blocks:
        block.calculate_mask = remembered
