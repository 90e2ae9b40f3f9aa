"""The program of a process of its own in which ONNX Runtime runs files that nobody vouches for.

It is started by path and imports nothing of this package, so that it starts quickly. Frames go both ways: the length
of a JSON header, the header, and as many bytes as its `size` says.
"""

import json
import os
import struct
import time
from typing import Any, BinaryIO

# What ONNX Runtime calls the types that a clip may have, as NumPy calls them; float32 needs no entry.
DTYPES = {
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (16, 32, 64)},
}


def write(stream: BinaryIO, header: dict[str, Any], content: bytes = b"") -> None:
    """Send one frame."""
    head = json.dumps({**header, "size": len(content)}).encode()
    stream.write(struct.pack("<I", len(head)) + head)
    stream.write(content)
    stream.flush()


def read(stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """Receive one frame.

    Raises
    ------
    EOFError
        The other side is gone.
    """
    head = stream.read(4)
    if len(head) < 4:
        raise EOFError
    header = json.loads(stream.read(struct.unpack("<I", head)[0]))
    content = stream.read(header["size"])
    if len(content) < header["size"]:
        raise EOFError
    return header, content


def limit(extra: int | None, seconds: float) -> None:
    """Let this process have so many bytes and seconds of computing more than now, where the system can hold it to that.

    None lifts the limit on memory.

    Whoever asked also waits no longer than that, but may have been killed meanwhile: then nobody else would end it.
    """
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as stream:
            now = int(stream.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return
    _, longest = resource.getrlimit(resource.RLIMIT_CPU)
    until = int(time.process_time() + seconds * (os.cpu_count() or 1)) + 1
    resource.setrlimit(
        resource.RLIMIT_CPU, (until if longest == resource.RLIM_INFINITY else min(until, longest), longest)
    )
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if extra is None:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        return
    wanted = now + extra
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def main() -> None:
    """Answer requests until the other side is gone."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the frames
    import numpy
    import onnxruntime

    sessions: dict[int, Any] = {}
    answer: dict[str, Any]
    while True:
        try:
            request, content = read(source)
        except EOFError:
            return
        number = request["session"]
        if request["do"] == "close":
            sessions.pop(number, None)
            continue
        limit(request["memory"], request["seconds"])
        try:
            if request["do"] == "open":
                options = onnxruntime.SessionOptions()
                options.log_severity_level = 4
                options.intra_op_num_threads = request["threads"]
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                providers = [*(["CUDAExecutionProvider"] if request.get("cuda") else []), "CPUExecutionProvider"]
                session = onnxruntime.InferenceSession(content, options, providers=providers)
                sessions[number] = session
                shapes = [[n if isinstance(n, int) else None for n in entry.shape] for entry in session.get_inputs()]
                answer, result = {"inputs": shapes}, b""
            else:
                session = sessions[number]
                entry = session.get_inputs()[0]
                x = numpy.frombuffer(content, numpy.float32).reshape(request["shape"])
                silent = onnxruntime.RunOptions()
                silent.log_severity_level = 4
                outputs = session.run(None, {entry.name: x.astype(DTYPES.get(entry.type, "float32"))}, silent)
                y = numpy.ascontiguousarray(outputs[0], dtype=numpy.float32)
                answer, result = {"shape": list(y.shape)}, y.tobytes()
        except Exception as error:  # noqa: BLE001  # the other side says it
            answer, result = {"error": f"{type(error).__name__}: {error}"[:2000]}, b""
        write(target, answer, result)


if __name__ == "__main__":
    main()
