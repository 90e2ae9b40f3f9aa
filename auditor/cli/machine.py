"""What `fl-audit doctor` checks: that every part of an audit can work on this machine."""

import platform
from collections.abc import Callable
from dataclasses import dataclass

from auditor.errors import AuditError


@dataclass(frozen=True)
class MachineCheck:
    """One part of the installation. `needed` tells what stops an audit from what only limits it."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True


def diagnose() -> tuple[MachineCheck, ...]:
    """Try every part and report it; a part that fails never stops the next check."""
    return tuple(
        _try(name, check, remedy, needed)
        for name, check, remedy, needed in (
            ("Python", platform.python_version, "", True),
            ("PyTorch", _torch, "pip install torch", True),
            (
                "torchvision",
                _torchvision,
                "install the torchvision that matches your torch: pip install -U torch torchvision",
                True,
            ),
            ("ONNX Runtime", _onnxruntime, "pip install onnxruntime-gpu (or onnxruntime, never both)", True),
            ("ONNX Runtime worker", _worker, "no model file can be compared with ONNX Runtime until it runs", True),
            ("shipped probes", _probes, "reinstall fl-audit", True),
            ("super-resolution weights", _weights, "reinstall fl-audit", False),
            ("PDF", _pdf, "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0", False),
            ("export to ONNX", lambda: _extra("onnxscript"), "pip install 'fl-audit[export]'", False),
            ("timm models", lambda: _extra("timm"), "pip install 'fl-audit[timm]'", False),
            ("Hugging Face models", lambda: _extra("transformers"), "pip install 'fl-audit[hf]'", False),
            ("face identity", _faces, "pip install 'fl-audit[faces]'", False),
            ("GPU", _gpu, "none is needed; audits take longer on a CPU", False),
        )
    )


def _try(name: str, check: Callable[[], str], remedy: str, needed: bool) -> MachineCheck:
    try:
        return MachineCheck(name, True, check(), remedy, needed)
    except AuditError as error:
        return MachineCheck(name, False, error.cause, error.remedy or remedy, needed)
    except Exception as error:  # noqa: BLE001 - whatever is broken is what the user came to hear
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return MachineCheck(name, False, reason, remedy, needed)


def _torch() -> str:
    import torch

    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _torchvision() -> str:
    import torchvision

    return str(torchvision.__version__)


def _onnxruntime() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def _worker() -> str:
    import array

    from onnx import TensorProto, helper

    from auditor.runtime_process import Session

    place = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negation", place[:1], place[1:])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    content, _ = Session(model.SerializeToString(), 1).run(array.array("f", [2.0]).tobytes(), (1,))
    if array.array("f", content)[0] != -2.0:
        raise AuditError("it computes wrongly")
    return "a process of its own runs a model"


def _extra(package: str) -> str:
    """Version of an optional package, which is not imported: some take seconds."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError as error:
        raise AuditError(f"{package} is not installed (optional)") from error


def _faces() -> str:
    _extra("face-recognition-models")
    return _extra("dlib-bin")


def _probes() -> str:
    from auditor.probe.real import manifest, shipped_frames

    return f"{sum(1 for entry in manifest() if len(shipped_frames(entry)) > 1)} clips, digests match"


def _weights() -> str:
    import torch

    from auditor.enhance import DatLight

    made = DatLight(2)(torch.full((1, 3, 16, 16), 0.5))
    return f"{made.method} runs"


def _pdf() -> str:
    import weasyprint

    weasyprint.HTML(string="<p>fl-audit</p>").write_pdf()
    return f"WeasyPrint {weasyprint.__version__}"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        raise AuditError("no CUDA device")
    return torch.cuda.get_device_name()
