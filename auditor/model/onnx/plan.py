"""What runs for one input shape: calls on numbered registers, each value let go after its last reader."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from auditor.model.onnx.operators import Function

Call = tuple[Function, tuple[int, ...], tuple[int, ...]]


class PlanStep(NamedTuple):
    """One call of the plan: registers to read, registers to write, registers that nobody reads again."""

    function: Function
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    dead: tuple[int, ...]


class Plan(NamedTuple):
    """What runs for one input shape; `registers` holds the constants, None elsewhere."""

    steps: tuple[PlanStep, ...]
    registers: list[Any]
    input: int
    output: int

    def run(self, x: Tensor, kept: Iterable[Tensor]) -> Any:
        """Return the output for a batch; `kept` are the module's own tensors, which fill the first registers."""
        registers = self.registers.copy()
        for register, tensor in enumerate(kept):
            registers[register] = tensor
        registers[self.input] = x
        for function, reads, writes, dead in self.steps:
            result = function(*[registers[i] for i in reads])
            if isinstance(result, tuple):
                for register, value in zip(writes, result, strict=False):
                    registers[register] = value
            else:
                registers[writes[0]] = result
            for register in dead:
                registers[register] = None
        return registers[self.output]


def compiled(calls: Sequence[Call], registers: list[Any], entry: int, output: int) -> Plan:
    """Return the plan of what was traced: calls that the output does not need are left out."""
    needed = {output}
    kept = []
    for function, reads, writes in reversed(calls):
        if needed.isdisjoint(writes):
            continue
        # Constants stay in the template; everything else is dropped as soon as its last reader has run.
        dead = tuple({r for r in (*reads, *writes) if r not in needed and registers[r] is None})
        needed.update(reads)
        kept.append(PlanStep(function, reads, writes, tuple(r for r in dead if r != output)))
    return Plan(tuple(reversed(kept)), registers, entry, output)
