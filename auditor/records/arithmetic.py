"""How processors are told to compute: with all the digits of float32, the same way every time, without denormals."""

from collections.abc import Mapping

import torch


def compute_exactly() -> None:
    """Switch TF32 off, let cuDNN take the same kernels every time, and let CPUs take denormal numbers for zero.

    TF32 keeps 10 bits of a factor's 23 (NVIDIA A100 whitepaper, 2020): closed forms divide small differences of
    gradients, and the simulated client would not be the one that sent the update. cuDNN takes TF32 unless it is told
    otherwise, and picks kernels by trial.

    Denormal numbers, below 1.2e-38 in float32, say nothing of a clip, but processors compute with each of them about a
    hundred times as long (IEEE 754-2019, subnormal). Slopes of smoothed rectifiers are full of them: a product of a
    matrix that met 1,060 of them took 29 ms, not 0.6.
    """
    torch.set_flush_denormal(True)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def arithmetic_block(device: torch.device) -> Mapping[str, str]:
    """Return what decides how numbers are rounded on this machine, besides the versions."""
    found = {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "blas": _blas(),
        "denormals": "flushed" if _flushes() else "kept",
    }
    if device.type != "cuda":
        return found
    cudnn = torch.backends.cudnn
    return {
        **found,
        "cuda": str(torch.version.cuda),
        "cudnn": str(cudnn.version()),  # type: ignore[no-untyped-call]
        "cudnn_kernels": "deterministic" if cudnn.deterministic and not cudnn.benchmark else "by trial",
        "tf32": "on" if torch.backends.cuda.matmul.allow_tf32 or cudnn.allow_tf32 else "off",
    }


def _flushes() -> bool:
    """Tell whether the CPU takes denormal numbers for zero; torch sets it and cannot be asked."""
    least = torch.tensor(torch.finfo(torch.float32).tiny)
    return bool(least / 4.0 * 4.0 == 0.0)


def _blas() -> str:
    if torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return "MKL"
    return "OpenBLAS" if "BLAS_INFO=open" in torch.__config__.show() else "other"
