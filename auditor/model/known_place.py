"""One operation of a forward pass that is read again and again, found by its number: no other is looked at."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from auditor.model.forward_pass import Reading, tensors_in


@dataclass(frozen=True, slots=True)
class KnownPlace:
    """The operation with this number reads a parameter, and its operand with that number is the input."""

    number: int
    operator: str
    operand: int

    @classmethod
    def of(cls, reading: Reading, parameter: Tensor) -> "KnownPlace | None":
        """Return where a reading is; None where it reads what is made of the parameter: it would not be known again."""
        if not any(_shares(weight, parameter) for weight, _ in reading.weights):
            return None
        return cls(reading.number, reading.operator, reading.operand)

    def read(self, model: nn.Module, parameter: Tensor, clips: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the operation's input and output, differentiable in `clips`.

        None where the pass went another way this time, and something else has that number.
        """
        reader = _PlaceReader(self, parameter)
        with reader:
            model(clips)
        return reader.read


class _PlaceReader(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, place: KnownPlace, parameter: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read: tuple[Tensor, Tensor] | None = None
        self._place, self._parameter, self._left = place, parameter, place.number

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: skipping the compiler would import it first, which takes a second."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._left == 0 and func._schema.name == self._place.operator:
            operands, outputs = list(tensors_in((args, kwargs))), list(tensors_in(result))
            known = any(_shares(operand, self._parameter) for operand in operands)
            if known and outputs and self._place.operand < len(operands):
                self.read = operands[self._place.operand], outputs[0]
        self._left -= 1
        return result


def _shares(value: Tensor, parameter: Tensor) -> bool:
    return bool(value.untyped_storage()._cdata == parameter.untyped_storage()._cdata)
