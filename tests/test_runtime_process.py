"""ONNX Runtime in its own process: what a file can do to it, and that it outlives nobody."""

import os
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from auditor import runtime_worker as worker
from auditor.runtime_process import EndedError, Session

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are Linux's")
CLIP = np.arange(4, dtype=np.float32)


def looping(rounds: int) -> bytes:
    """Return a model that takes the sine of its input so many times."""
    truth, state = (
        [helper.make_tensor_value_info(name, kind, shape) for name in names]
        for names, kind, shape in ((("go", "gone"), TensorProto.BOOL, []), (("s", "t"), TensorProto.FLOAT, [4]))
    )
    nodes = [helper.make_node("Identity", ["go"], ["gone"]), helper.make_node("Sin", ["s"], ["t"])]
    index = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    body = helper.make_graph(nodes, "body", [index, truth[0], state[0]], [truth[1], state[1]])
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "yes", "x"], ["y"], body=body)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [
            helper.make_tensor("n", TensorProto.INT64, [], [rounds]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    return bytes(model.SerializeToString())


def test_it_computes() -> None:
    content, shape = Session(looping(2), 1).run(CLIP.tobytes(), (4,))
    assert shape == (4,)
    assert np.allclose(np.frombuffer(content, np.float32), np.sin(np.sin(CLIP)), atol=1e-6)


def test_a_worker_whose_owner_is_gone_ends_by_itself() -> None:
    """An owner that was killed cannot stop the loop that it asked for."""
    command = [sys.executable, "-P", worker.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        asked = {"session": 1, "memory": 2**31, "seconds": 1.0 / (os.cpu_count() or 1)}
        worker.write(process.stdin, {**asked, "do": "open", "threads": 1}, looping(10**12))  # type: ignore[arg-type]
        assert "error" not in worker.read(process.stdout)[0]  # type: ignore[arg-type]
        worker.write(process.stdin, {**asked, "do": "run", "shape": [4]}, CLIP.tobytes())  # type: ignore[arg-type]
        assert process.wait(60) < 0


def test_an_answer_that_does_not_come_is_told_and_the_next_model_runs(monkeypatch) -> None:
    session = Session(looping(10**12), 1)
    monkeypatch.setattr("auditor.runtime_process.SECONDS", 1.0)
    with pytest.raises(EndedError, match=r"did not end within|ended with signal"):
        session.run(CLIP.tobytes(), (4,))
    monkeypatch.undo()
    assert Session(looping(1), 1).run(CLIP.tobytes(), (4,))[1] == (4,)
