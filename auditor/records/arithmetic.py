"""How a GPU is told to compute: with all the digits of float32, and the same way every time."""

from collections.abc import Mapping

import torch


def compute_exactly() -> None:
    """Switch TF32 off, and let cuDNN take the same kernels every time.

    TF32 keeps 10 bits of a factor's 23 (NVIDIA A100 whitepaper, 2020): closed forms divide small differences of
    gradients, and the simulated client would not be the one that sent the update. cuDNN takes TF32 unless it is told
    otherwise, and picks kernels by trial.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def arithmetic_block(device: torch.device) -> Mapping[str, str]:
    """Return what decides how numbers are rounded on this machine, besides the versions."""
    found = {"cpu_capability": torch.backends.cpu.get_cpu_capability(), "blas": _blas()}
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


def _blas() -> str:
    if torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return "MKL"
    return "OpenBLAS" if "BLAS_INFO=open" in torch.__config__.show() else "other"
