"""One converter at work, in a process of its own: `python converting.py TOOL LIST.json`, a line of JSON a file."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

OUTPUTS, GRADIENTS = 1e-4, 1e-3


def convert(tool: str, path: str) -> nn.Module:
    """Return what a converter makes of a file, as its documentation says."""
    if tool == "fl-audit":
        from auditor.model import load

        return load(path).model.network  # type: ignore[attr-defined]
    if tool == "onnx2torch":
        import onnx2torch

        return onnx2torch.convert(path)
    import onnx

    if tool == "onnx2pytorch":
        import onnx2pytorch

        return onnx2pytorch.ConvertModel(onnx.load(path), experimental=True)
    import onnx2fx

    return onnx2fx.make_trainable(onnx2fx.convert(path))


def judged(module: nn.Module, truth: dict[str, Any]) -> dict[str, Any]:
    """Apply the checks to a converted module."""
    module.eval()
    x: Tensor = truth["x"][:1]
    result: dict[str, Any] = {"loads": False, "outputs": False, "gradients": False, "double": False, "kept": False}
    logits = _tensor(module(x))
    result |= {"loads": True, "parameters": len(truth["parameters"]), "found": 0}
    expected = truth["outputs"][:1]
    if logits.shape == expected.shape:
        result["output_error"] = float((logits.detach() - expected).abs().max() / expected.abs().max())
        result["outputs"] = result["output_error"] < OUTPUTS
    parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
    recognised = {
        name: found for name, value in parameters.items() if (found := _twin(value.detach(), truth)) is not None
    }
    kept = {original for names, _ in recognised.values() for original in names}
    result["found"] = len(kept)
    result["kept"] = kept == set(truth["parameters"])
    result["others"] = len(parameters) - len(recognised)
    if not parameters:
        return result
    try:
        found = _gradients(module, x, list(parameters.values()), False)
    except Exception as error:  # noqa: BLE001 - a converter that cannot differentiate is a table entry
        return result | {"reason": _line(error)}
    gradients = {
        n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(parameters.items(), found, strict=True)
    }
    largest = max(float(value.abs().max()) for _, _, value in truth["counterparts"])
    errors = [
        float((gradients[name] - want.reshape(gradients[name].shape)).abs().max())
        / max(float(want.abs().max()), 1e-3 * largest)
        for name, (_, want) in recognised.items()
    ]
    if errors:
        result["gradient_error"] = max(errors)
        result["gradients"] = max(errors) < GRADIENTS
    try:
        clip = x.clone().requires_grad_()
        first = _gradients(module, clip, list(parameters.values()), True)
        squares = [g.square().sum() for g in first if g is not None]
        (second,) = torch.autograd.grad(sum(squares[1:], squares[0]), clip)
        result["double"] = bool(torch.isfinite(second).all())
    except Exception as error:  # noqa: BLE001
        result["reason"] = _line(error)
    return result


def _gradients(module: nn.Module, x: Tensor, parameters: list[Tensor], graph: bool) -> Any:
    logits = _tensor(module(x))
    loss = nn.functional.cross_entropy(logits, torch.zeros(1, dtype=torch.int64))
    return torch.autograd.grad(loss, parameters, create_graph=graph, allow_unused=True)


def _tensor(outputs: Any) -> Tensor:
    return outputs[0] if isinstance(outputs, (tuple, list)) else outputs


def _twin(value: Tensor, truth: dict[str, Any]) -> tuple[tuple[str, ...], Tensor] | None:
    for names, numbers, gradient in truth["counterparts"]:
        if numbers.numel() == value.numel() and torch.equal(numbers.reshape(-1), value.reshape(-1)):
            return names, gradient
    return None


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:160]


def main(tool: str, listed: str) -> None:
    """Convert and judge every file of a list."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    output, sys.stdout = sys.stdout, sys.stderr  # converters print
    for path in json.loads(Path(listed).read_text()):
        truth = torch.load(Path(path).with_suffix(".pt"), weights_only=True)
        try:
            # Fused attention has no second derivative; none of the converters is to be judged by that.
            with sdpa_kernel(SDPBackend.MATH):
                result = judged(convert(tool, path), truth)
        except Exception as error:  # noqa: BLE001
            result = {"loads": False, "reason": _line(error)}
        print(json.dumps(result), file=output, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
