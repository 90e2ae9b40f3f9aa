"""Which ONNX converters turn video models into PyTorch modules whose gradients are those of the original?

    python benchmarks/converters.py                      # fl-audit, and those of the others that are installed
    python benchmarks/converters.py --python PEERS/bin/python   # the others in an environment of their own

The others are installed by `pip install onnx2torch==1.5.15 onnx2pytorch==0.6.0 onnx2fx==0.0.1`, or with `--no-deps`
where torch and onnx are there already. Writes docs/converters.md, and with `--json FILE` every number. With
`--cache FOLDER` exports and outcomes are kept there, so that a run that was stopped goes on where it was; delete
`FOLDER/TOOL/` to measure a converter again.
"""

import argparse
import datetime
import json
import platform
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "model"), str(ROOT / "benchmarks")]
MODES = (("dynamo", 20), ("dynamo-plain", 23), ("legacy", 17), ("legacy-training", 17))
TOOLS = ("fl-audit", "onnx2torch", "onnx2pytorch", "onnx2fx")
COLUMNS = {"loads": "loads", "outputs": "outputs", "gradients": "gradients", "double": "double backward",
           "kept": "all parameters"}  # fmt: skip


def exported(folder: Path, names: list[str], tools: list[str]) -> Iterator[dict[str, Any]]:
    """Export every net in every mode beside what it must compute; yield one job for each file.

    What lies in the folder, or has the outcomes of all converters there, is not exported again.
    """
    import torch
    import witness
    import zoo

    for name in names:
        for exporter, opset in MODES:
            job = {"net": name, "exporter": exporter, "opset": opset}
            path = folder / f"{name}-{exporter}-{opset}.onnx"
            truth_path = path.with_suffix(".pt")
            if truth_path.exists() or all((folder / tool / f"{path.stem}.json").exists() for tool in tools):
                yield job | {"path": str(path)}
                continue
            net = zoo.build(name)
            shape = zoo.shape_of(net)
            try:
                zoo.export(net, path, exporter, shape, opset=opset)
            except Exception as error:  # noqa: BLE001 - whatever an exporter raises, there is no file to compare
                yield job | {"path": "", "reason": type(error).__name__}
                continue
            x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(3))
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                gradients = witness.gradients(net, x[:1])
            counterparts = [
                (names, function(*(dict(net.named_parameters())[n].detach() for n in names)),
                 function(*(gradients[n] for n in names)))
                for names, function in witness.counterparts(net)
            ]  # fmt: skip
            truth = {"x": x, "outputs": net(x).detach(), "parameters": list(gradients), "counterparts": counterparts}
            unfinished = truth_path.with_suffix(".part")
            torch.save(truth, unfinished)
            unfinished.rename(truth_path)
            yield job | {"path": str(path)}


def outcomes(tool: str, python: str, jobs: list[dict[str, Any]], seconds: float, kept: Path) -> list[dict[str, Any]]:
    """Convert every file in child processes; a crash or a time-out costs one file, and the next child goes on.

    An outcome that lies in the folder `kept` is not measured again; new ones are written there.
    """
    kept.mkdir(parents=True, exist_ok=True)
    places = [kept / f"{Path(job['path']).stem}.json" for job in jobs]
    missing = [(job["path"], place) for job, place in zip(jobs, places, strict=True) if not place.exists()]
    while missing:
        done = 0
        for result in _converted(tool, python, [path for path, _ in missing], seconds):
            result["day"] = datetime.date.today().isoformat()
            missing[done][1].write_text(json.dumps(result))
            done += 1
        missing = missing[done:]
    return [json.loads(place.read_text()) for place in places]


def _converted(tool: str, python: str, paths: list[str], seconds: float) -> Iterator[dict[str, Any]]:
    """Yield the outcomes of one child process, which ends early where a file kills it."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as listed:
        json.dump(paths, listed)
        listed.flush()
        command = [python, str(ROOT / "benchmarks" / "converting.py"), tool, listed.name]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(child, lines), daemon=True).start()
        done = 0
        while done < len(paths):
            try:
                line = lines.get(timeout=seconds + (30 if not done else 0))  # the first file pays for the imports
            except queue.Empty:
                child.kill()
                yield {"reason": f"no answer in {seconds:.0f} s"}
                break
            if line is None:
                yield {"reason": f"the process ended with code {child.wait()}"}
                break
            if line.startswith("{"):
                yield json.loads(line)
                done += 1
        child.wait()


def _read(child: "subprocess.Popen[str]", lines: "queue.Queue[str | None]") -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    lines.put(None)


def cell(result: dict[str, Any]) -> str:
    """Say in a few words what a converter made of one file."""
    if not result.get("loads"):
        return f"fails: {result.get('reason', '')[:48]}".replace("|", "/").replace("\n", " ")
    share = f"{result['found']}/{result['parameters']}"
    missing = [COLUMNS[key] for key in ("outputs", "gradients", "double") if not result[key]]
    return f"{share}, but {', '.join(missing)} wrong or missing" if missing else share


def document(rows: list[dict[str, Any]], versions: dict[str, str], tools: list[str]) -> str:
    """Write the comparison in Markdown."""
    files = [row for row in rows if row["path"]]
    text = f"""# ONNX converters compared

Made by `benchmarks/converters.py` (`--nets` chooses other nets than those shown), measured
{_when(files, tools)}: {len(files)} files, from
{len({row["net"] for row in rows})} small video nets of `tests/model/zoo.py` with random weights, by PyTorch
{versions["torch"]} (onnx {versions["onnx"]}, Python {platform.python_version()}).

| converter | version |
|---|---|
"""
    text += "".join(f"| {tool} | {versions.get(tool, 'not installed')} |\n" for tool in tools)
    text += """
The same checks for all, on the module that the converter returns, in evaluation mode:

- **loads**: the conversion and one forward pass at the exported batch of one finish, within the time limit;
- **outputs**: equal to the original module's to 1e-4 of the largest logit, for one clip;
- **gradients**: of the cross-entropy of one clip, for every parameter of the returned module that can be recognised as
  one of the original by its numbers (plain, transposed, a part, or in the order of gates that ONNX has), equal to the
  original's to 1e-3 of the parameter's largest. No parameter recognised counts as missing;
- **double backward**: the gradient's squared norm can be differentiated by the clip, with finite values;
- **all parameters**: every parameter of the original is recognised in the returned module. PyTorch's default exports
  merge batch normalisation into convolutions and compute some values in advance: there no converter can keep them all.

A tensor counts as a parameter if the returned module holds it as an `nn.Parameter` (onnx2fx after its own
`make_trainable`). Batches other than the exported one are not part of this comparison.

"""
    text += "| converter | " + " | ".join(COLUMNS.values()) + " |\n|---|" + "---|" * len(COLUMNS) + "\n"
    for tool in tools:
        counts = [sum(bool(row[tool].get(key)) for row in files) for key in COLUMNS]
        text += f"| {tool} | " + " | ".join(f"{count} of {len(files)}" for count in counts) + " |\n"
    for mode in dict.fromkeys((row["exporter"], row["opset"]) for row in rows):
        text += f"\n## {_spelled(*mode)}\n\nA cell gives the parameters kept, and what is wrong.\n\n"
        text += "| net | " + " | ".join(tools) + " |\n|---|" + "---|" * len(tools) + "\n"
        for row in rows:
            if (row["exporter"], row["opset"]) == mode:
                cells = [cell(row[tool]) if row["path"] else f"no file: {row['reason']}" for tool in tools]
                text += f"| {row['net']} | " + " | ".join(cells) + " |\n"
    return text


def _when(files: list[dict[str, Any]], tools: list[str]) -> str:
    days = sorted({row[tool]["day"] for row in files for tool in tools})
    return f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"


def _spelled(exporter: str, opset: int) -> str:
    return {
        "dynamo": f"dynamo=True (the default), opset {opset}",
        "dynamo-plain": f"dynamo=True, optimize=False, opset {opset}",
        "legacy": f"dynamo=False, opset {opset}",
        "legacy-training": f"dynamo=False, training=TRAINING, do_constant_folding=False, opset {opset}",
    }[exporter]


def versions_of(python: str) -> dict[str, str]:
    """Return the versions of the converters in an environment."""
    code = (
        "import importlib.metadata as m, json\nv = {}\n"
        "for n in ('torch', 'onnx', 'onnx2torch', 'onnx2pytorch', 'onnx2fx'):\n"
        "    try: v[n] = m.version(n)\n    except m.PackageNotFoundError: pass\nprint(json.dumps(v))"
    )
    return dict(json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout))


def main() -> None:
    """Run the comparison and write it down."""
    import zoo

    from auditor import __version__

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment of the others")
    parser.add_argument("--nets", nargs="*", default=[*zoo.NETS, *zoo.FAMILIES], help="nets of tests/model/zoo.py")
    parser.add_argument("--large", action="store_true", help="also torchvision's full-size models (minutes)")
    parser.add_argument("--seconds", type=float, default=60, help="time limit of one conversion and its checks")
    parser.add_argument("--cache", type=Path, help="folder that keeps exports and outcomes between runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "converters.md")
    given = parser.parse_args()
    versions = versions_of(given.python)
    tools = ["fl-audit", *(tool for tool in TOOLS[1:] if tool in versions)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.cache or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        names = [*given.nets, *(zoo.LARGE if given.large else ())]
        rows = list(exported(folder, names, tools))
        files = [row for row in rows if row["path"]]
        for tool in tools:
            python = sys.executable if tool == "fl-audit" else given.python
            for row, result in zip(files, outcomes(tool, python, files, given.seconds, folder / tool), strict=True):
                row[tool] = result
            print(tool, "done", flush=True)
    for row in rows:
        row["path"] = Path(row["path"]).name
    versions["fl-audit"] = __version__
    given.output.write_text(document(rows, versions, tools))
    if given.json:
        given.json.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
