"""How all tests run: one thread each, whole files a process, the longest files first, every report read again."""

import functools
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import emulated_device
import pytest
import torch
from rendered import page_contradictions

if os.environ.get("FL_AUDIT_CHECK_SHAPES"):
    # `make shapes` checks every annotated shape of the numerical stages while their tests run; it takes minutes.
    from jaxtyping import install_import_hook

    stages = ("probe", "federated", "attack", "enhance", "exposure", "score")
    install_import_hook([f"auditor.{stage}" for stage in stages], "beartype.beartype")

# `make device` runs every attack of the attacks' tests on the emulated device, in minutes; `cuda` is any GPU.
ATTACKS_ON = os.environ.get("FL_AUDIT_ATTACKS_ON", "")
if emulated_device.AVAILABLE:
    emulated_device.device(threads=ATTACKS_ON == emulated_device.NAME)
if ATTACKS_ON:
    from emulated_device.moving import run_attacks_on

    run_attacks_on(torch.device(ATTACKS_ON))

# Processes that tests start read it. Small nets gain nothing from a second thread, and lose much on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

TESTS = Path(__file__).parent
# Files that take more than ten seconds begin first, so that no process is left with one while the others are done.
LONGEST = (
    "pipeline/test_pipeline_scan.py",
    "study/test_study_run.py",
    "report/test_pdf.py",
    "cli/test_cli_defend.py",
    "verification/test_edits.py",
    "verification/test_pages.py",
    "gate/test_story.py",
    "comparison/test_compare_command.py",
    "journal/test_resume.py",
    "report/test_rendered.py",
    "cli/test_cli.py",
    "pipeline/test_pipeline_two_part.py",
    "attack/test_contract.py",
    "pipeline/test_references.py",
    "test_contributing.py",
    "test_wheel.py",
    "attack/recursion/test_residual_recursion.py",
    "pipeline/test_repeats.py",
    "attack/closed_form/test_token_spans.py",
    "cli/test_cli_captured.py",
    "cli/test_cli_replay.py",
    "cli/test_inspect.py",
    "model/onnx/test_model_onnx.py",
    "model/onnx/test_model_export.py",
    "model/checks/test_model_fidelity.py",
    "attack/recursion/test_layer_recursion.py",
    "score/test_score_retrieval.py",
    "report/test_files.py",
    "model/pytorch/test_archives.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests of the longest files first, all others keep their order; skip those of a GPU where there is none."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="no GPU here"))


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what was imported: layouts make it look at all of that very often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _read_again(render: Callable[..., str]) -> Callable[..., str]:
    """Return the function that renders a report with a reader behind it, who finds contradictions on the page."""

    @functools.wraps(render)
    def rendered(results: Mapping[str, Any], printed: bool) -> str:
        page = render(results, printed)
        found = page_contradictions(page)
        assert not found, found
        return page

    return rendered


def _remember_galleries() -> None:
    """Keep the candidates of several inputs: an audit has one, and tests of a process go to and fro between few."""
    module = importlib.import_module("auditor.probe.gallery")  # the package shows its function of that name
    module._shipped_gallery = functools.lru_cache(maxsize=8)(module._shipped_gallery.__wrapped__)


_remember_galleries()


def _read_every_report() -> None:
    import auditor.report
    from auditor.report.page import render

    modules = [m for name, m in sys.modules.items() if name.startswith(auditor.report.__name__)]
    for module in modules:
        if getattr(module, "render", None) is render:
            module.render = _read_again(render)


_read_every_report()


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run `fl-audit ARGS` in this process, in an empty folder; return code, stdout, stderr."""
    from auditor.cli import main as cli

    monkeypatch.chdir(tmp_path)
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def call(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fl-audit", *map(str, args)])
        with pytest.raises(SystemExit) as out:
            cli.main()
        shown = capsys.readouterr()
        return int(out.value.code or 0), shown.out, shown.err

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)
