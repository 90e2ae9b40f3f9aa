"""Deliberate defects, one for each family of modules, and which tests have to notice them.

python tests/planted_faults.py                     every fault in a copy of this tree, as a table
python tests/planted_faults.py --tree ../old-tree  the same in another tree: modules and tests are found where they were
python tests/planted_faults.py --only psnr gate    some of them
"""

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("auditor", "tests", "probes", "report_templates", "examples", "pyproject.toml")
PATIENCE = 600.0
# What the modules under test import and every run of tests would import anew.
SHARED = ("onnx", "PIL.Image", "scipy.ndimage", "scipy.special", "spandrel", "torchvision", "typer")


@dataclass(frozen=True)
class Fault:
    """A text of a module, what replaces it, and the test files of which one has to fail.

    Attributes
    ----------
    name
        What is wrong then, in a few words.
    module
        Where the text is, below `auditor/`; modules that moved are found by their name.
    tests
        Names of test files, or `file::test`, most telling first; wherever they are below `tests/`, if they are.
    former
        Where the text was when its module had another name.
    """

    family: str
    name: str
    module: str
    right: str
    wrong: str
    tests: tuple[str, ...]
    former: str = ""


FAULTS = (
    Fault("model", "BatchNorm that was folded is not told", "model/onnx/batchnorm.py",
          'BatchNormState(word="folded", how=evidence + left)', 'BatchNormState(word="none", how=evidence + left)',
          ("test_model_fidelity.py",)),
    Fault("model", "single trained numbers are constants", "model/onnx/parameters/trainable_constants.py",
          "value.numel() == 1 and not self.may_be_trained(name)", "value.numel() == 1", ("test_model_parameters.py",),
          "model/trainable.py"),
    Fault("model", "an operator: LeakyRelu leaks the wrong way", "model/onnx/operators/activation.py",
          "F.leaky_relu(x, alpha)", "F.leaky_relu(x, -alpha)", ("test_model_operators.py",)),
    Fault("probe", "canary filters are not scaled", "probe/canary.py", "return inner / norms", "return -inner / norms",
          ("test_probe_canary.py",)),
    Fault("probe", "a gallery may hold the truth", "probe/gallery.py",
          "if own is not None and exclude is not None and _same(shown, own, exclude.kind):", "if shown is own:",
          ("test_probe_gallery.py",)),
    Fault("probe", "crops are taken off centre", "probe/fit.py", "top, left = (h - kept_h) // 2, (w - kept_w) // 2",
          "top, left = 0, 0", ("test_probe_real.py", "test_probe_user.py")),
    Fault("federated", "local steps go uphill", "federated/local_steps.py", "alpha=-protocol.", "alpha=+protocol.",
          ("test_federated_fedavg.py",)),
    Fault("federated", "momentum is forgotten", "federated/local_steps.py", "protocol.momentum * before + slope",
          "slope", ("test_federated_fedavg.py",)),
    Fault("federated", "classes that are present count as absent", "federated/loss.py",
          "return F.binary_cross_entropy_with_logits(rows, wanted)",
          "return F.binary_cross_entropy_with_logits(rows, 1 - wanted)", ("test_federated_losses.py",)),
    Fault("federated", "a soft-labelled loss has the wrong sign", "federated/loss.py",
          "return -(targets * log).sum(1).mean()", "return (targets * log).sum(1).mean()",
          ("test_federated_losses.py",)),
    Fault("federated", "buffers weigh old and new the wrong way round", "federated/buffers.py",
          "(1.0 - self.share) * old + self.share * new", "self.share * old + (1.0 - self.share) * new",
          ("test_federated_buffers.py",)),
    Fault("federated", "labels of a batch are all the same", "federated/labels.py",
          "return (int(label) + by) % (2 if", "return int(label) % (2 if", ("test_federated_losses.py",)),
    Fault("federated", "all clients drop the same units", "federated/client.py", "torch.manual_seed(self.seed)",
          "torch.manual_seed(0)", ("test_federated_buffers.py",)),
    Fault("attack: closed forms", "the input of a Linear is doubled", "attack/closed_form/linear_input.py",
          "x = (dw.T @ db) / db.square().sum()\n    off =", "x = 2 * (dw.T @ db) / db.square().sum()\n    off =",
          ("test_attack_closed_forms.py",)),
    Fault("attack: closed forms", "APRIL forgets the transposition", "attack/closed_form/april.py",
          "terms.append(w @ dw.T if self.transposed else w.T @ dw)",
          "terms.append(w @ dw.T if self.transposed else w @ dw)", ("test_april.py",)),
    Fault("attack: closed forms", "a patch embedding pairs with two clips' positions",
          "attack/closed_form/patch_embedding.py", "if view.update.batch != 1:", "if view.update.batch > 9:",
          ("test_patch_embedding.py", "test_contract.py")),
    Fault("attack: matching", "the cosine loses its norm", "attack/matching/objective.py",
          "return 1.0 - inner / (mine.sqrt() * other.sqrt()).clamp(min=1e-30)",
          "return 1.0 - inner / other.clamp(min=1e-30)", ("test_objectives.py", "test_attack_parts.py")),
    Fault("attack: matching", "the temporal prior looks across rows", "attack/matching/prior.py",
          "self.weight * _variation(clips, axis=1)", "self.weight * _variation(clips, axis=3)",
          ("test_attack_parts.py", "test_attack_matching.py")),
    Fault("attack: recursion", "units are inverted on one side only", "attack/recursion/unit_inverse.py",
          "crossing = (table[1:] > 0) != (table[:-1] > 0)", "crossing = (table[1:] > 0) > (table[:-1] > 0)",
          ("test_layer_recursion.py",)),
    Fault("attack: features", "a span of repeated frames is refused", "attack/features/head_features.py",
          "return 1 < span.rank < min(", "return 9 < span.rank < min(",
          ("test_head_features.py", "test_frame_span.py")),
    Fault("attack: labels", "iDLG takes the largest bias", "attack/labels/cross_entropy_rules.py",
          "bias.argmin()", "bias.argmax()",
          ("test_label_rules.py", "test_attack_labels.py"), "attack/label_rules.py"),
    Fault("attack: FedAvg", "the surrogate goes the wrong way", "attack/fedavg/surrogate.py",
          "made[name] = self._start[name] - t * moved", "made[name] = self._start[name] + t * moved",
          ("test_fedavg_attacks.py",)),
    Fault("attack: malicious", "bins are not told apart", "attack/malicious/imprint.py",
          "if i + 1 < len(found.order):", "if i + 1 < 0:", ("test_imprint_and_fishing.py",)),
    Fault("solvers", "priors grow in place of fading", "solvers/schedule.py", "self.anneal**progress",
          "self.anneal**-progress", ("test_attack_parts.py", "test_step_rules.py", "test_rules.py"), "attack/step.py"),
    Fault("solvers", "steps uphill are accepted", "solvers/line_search.py", "if loss > previous + _ENOUGH *",
          "if loss > 9e9 + _ENOUGH *", ("test_step_rules.py", "test_rules.py")),
    Fault("exposure", "noise counts for the root of what it is", "exposure/layers.py",
          "sigma**2 * self.signal", "sigma * self.signal", ("test_exposure.py",)),
    Fault("score", "psnr takes the error by its root", "score/psnr.py", "return -10 * (error", "return -5 * (error",
          ("test_score_fidelity.py",)),
    Fault("score", "SSIM loses the covariance's factor", "score/ssim.py", "structure = (2 * covariance",
          "structure = (covariance", ("test_score_fidelity.py",)),
    Fault("score", "a tie counts for the attacker", "score/retrieval.py", "candidates >= similar[0] - _TIE",
          "candidates > similar[0] + _TIE", ("test_score_retrieval.py",)),
    Fault("score", "an embedding's tie counts for the attacker", "score/embedding.py",
          "similar[1:] >= similar[0] - _TIE", "similar[1:] > similar[0] + _TIE", ("test_embedding.py",)),
    Fault("score", "the interval is of one side", "score/intervals.py", "special.ndtri(1 - _ALPHA / 2)",
          "special.ndtri(1 - _ALPHA)", ("test_score_intervals.py",)),
    Fault("score", "bits that a reference hands over count as read", "score/intervals.py", "max(0.5, blind)",
          "min(0.5, blind)", ("test_score_intervals.py",)),
    Fault("score", "an exact finding needs no more than 25 dB", "results/scores.py", "EXACT_DB = 35.0",
          "EXACT_DB = 25.0", ("test_score_verdict.py", "test_references.py")),
    Fault("score", "a picture of the empty scene shows a person", "score/content.py",
          "(true - true.median(0, keepdim=True).values).square()", "torch.ones_like(true)", ("test_content.py",)),
    Fault("score", "recognisable needs no visible content", "score/grade.py",
          "score.content >= VISIBLE_CONTENT", "score.content >= -1.0", ("test_score_verdict.py",)),
    Fault("score", "severity ignores what the attacker knew", "score/severity.py",
          "(fidelity + preconditions + reach) / 3.0", "(fidelity + 1.0 + reach) / 3.0", ("test_score_verdict.py",)),
    Fault("score", "failed controls are overlooked", "score/verdict.py", "if course.failed_controls:",
          "if not course.clips and course.failed_controls:", ("test_score_verdict.py",)),
    Fault("score", "motion is compared with the moving clip itself", "score/motion.py",
          "psnr(residual(truth.double()), residual(estimate.double()))",
          "psnr(residual(truth.double()), estimate.double())", ("test_score_fidelity.py", "test_score_clip.py")),
    Fault("enhance", "fused frames are not weighted", "enhance/fusion.py", "weight = torch.exp(-apart /",
          "weight = torch.exp(0 * apart /", ("test_fusion.py",)),
    Fault("pipeline: units", "attacks with a reference have no null", "pipeline/units.py",
          "update=_foreign(observed, i)", "update=i",
          ("test_references.py::test_references_of_the_users_bring_the_attacks_that_use_several",)),
    Fault("pipeline: membership", "a clip is found by any of its frames", "pipeline/membership.py",
          'return 2 * sum(a.called for a in self.asked if a.kind == "member") >',
          'return 9 * sum(a.called for a in self.asked if a.kind != "member") >', ("test_scan_membership.py",)),
    Fault("study", "the lead is over the worse baseline", "study/measures.py", "return own - max(blind, null)",
          "return own - min(blind, null)", ("test_study_results.py", "test_study_features.py")),
    Fault("study", "a claim needs no interval", "study/claims.py", "if self.low > margin:", "if self.mean > margin:",
          ("test_study_claims.py",)),
    Fault("study", "a unit of another key is taken up", "journal/folder.py",
          'return found if isinstance(found, dict) and found.get("key") == key else None',
          "return found if isinstance(found, dict) else None", ("test_study_results.py",)),
    Fault("report", "infinities become null", "report/plain.py", 'else "inf" if value > 0', "else None if value > 0",
          ("test_files.py",)),
    Fault("report", "pictures of any size are drawn", "report/pictures.py",
          "if max(image.size) > _LONGEST_SIDE:", "if not image.size:", ("test_pictures.py", "test_page.py")),
    Fault("report", "pictures of any kind are drawn", "report/pictures.py",
          "if match is None:\n            return None",
          "if match is None:\n            return Picture(Markup(uri), 8, 8)", ("test_page.py",)),
    Fault("report", "control characters reach the terminal", "text.py", 'unicodedata.category(c)[0] != "C"',
          'unicodedata.category(c)[0] != "?"', ("test_terminal.py", "test_hostile_names.py")),
    Fault("command line", "an inconclusive audit exits with 0", "score/verdict.py",
          "return False, ExitCode.INCONCLUSIVE", "return False, ExitCode.GATE_SATISFIED",
          ("test_score_verdict.py",)),
    Fault("command line", "a file that cannot be audited exits with 2", "errors.py",
          "exit_code = ExitCode.NOT_AUDITABLE", "exit_code = ExitCode.USAGE", ("test_cli.py",)),
    Fault("command line", "an interrupted scan says that it wrote a report", "cli/unfinished.py",
          'lost: str = "no report was written"', 'lost: str = "the report was written"',
          ("test_cli.py::test_an_interrupt_tells_what_the_command_left_undone",), "cli.py"),
)  # fmt: skip


def found(fault: Fault, tree: Path) -> tuple[str, bool]:
    """Plant a fault in a copy of `tree` and run its tests; return what the first failure was, and whether there is one.

    Raises
    ------
    LookupError
        The module, the text (once) or a test file is not there: the fault has to follow the code.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in COPIED:
            source = tree / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, copy / name)
        module = module_of(fault, copy)
        text = module.read_text(encoding="utf-8")
        if text.count(fault.right) != 1:
            raise LookupError(f"{fault.name}: {text.count(fault.right)} times {fault.right!r} in {fault.module}")
        module.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
        chosen = selected(fault, copy)
        if not chosen:
            raise LookupError(f"{fault.name}: none of its tests is there")
        for tests in chosen:
            said = failure(copy, tests)
            if said:
                return said, True
    return "", False


def module_of(fault: Fault, tree: Path) -> Path:
    """Return the module of a fault: where it is said to be, or the only one of that name."""
    auditor = tree / "auditor"
    places = [auditor / name for name in (fault.module, fault.former) if name and (auditor / name).exists()]
    places = places[:1] or list(auditor.rglob(Path(fault.module).name))
    if len(places) != 1:
        raise LookupError(f"{fault.name}: {len(places)} modules may be {fault.module}")
    return places[0]


def selected(fault: Fault, tree: Path) -> list[str]:
    """Return what to run: files, or one test of a file (`file::test`)."""
    named = [name.partition("::") for name in fault.tests]
    return [f"{file}{colons}{test}" for name, colons, test in named for file in (tree / "tests").rglob(name)]


def failure(tree: Path, tests: str) -> str:
    """Run default tests up to the first failure, and return that test; empty if all pass."""
    log = tree / "log.txt"
    # A fork need not import torch again; the modules under test are imported in the fork alone.
    process = multiprocessing.get_context("fork").Process(target=_run, args=(tree, tests, log))
    process.start()
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
        return "a test that took too long"
    text = log.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if process.exitcode not in (0, 1, 2) or (process.exitcode and not lines):
        raise RuntimeError(text[-3000:])
    return lines[0].split(" ")[1].split("::", 1)[-1].split("[")[0] if lines else ""


def _run(tree: Path, tests: str, log: Path) -> None:
    assert not any(name.split(".")[0] == "auditor" for name in sys.modules), "the modules under test are imported"
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    code = pytest.main([tests, "-x", "-q", "-m", "not slow", "-n", "0", "-p", "no:cacheprovider"])
    sys.stdout.flush()
    os._exit(int(code))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one row a fault; return how many were not found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tree", type=Path, default=ROOT, help="the tree that faults are planted in")
    options.add_argument("--only", nargs="*", help="words of the names of the faults to plant")
    chosen = options.parse_args(arguments)
    faults = [f for f in FAULTS if not chosen.only or any(word in f"{f.name} {f.module}" for word in chosen.only)]
    for name in SHARED:
        importlib.import_module(name)
    torch.set_num_threads(1)
    missed = 0
    for fault in faults:
        said, noticed = found(fault, chosen.tree.resolve())
        missed += not noticed
        row = (fault.family, fault.name, f"`{fault.module}`", f"`{said}`" if noticed else "NOT FOUND")
        print(f"| {' | '.join(row)} |", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
