"""Makes slowfast_onnxsim.onnx and gru_onnxslim.onnx: exports of the zoo's nets, run through two simplifiers.

`python make_simplified.py EXPORTED.onnx RESULT.onnx onnxsim|onnxslim`, in an environment that has the simplifier.
"""

import sys

import onnx


def main(source: str, result: str, tool: str) -> None:
    """Simplify one file."""
    if tool == "onnxsim":
        import onnxsim

        model, ok = onnxsim.simplify(onnx.load(source))
        assert ok
    else:
        import onnxslim

        model = onnxslim.slim(source)
    onnx.save(model, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
