"""`fl-audit attack` as a user meets it: what it prints, what it writes, and how it refuses."""

import functools
import inspect
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from conformity import conforms
from error_lines import error_after_progress
from PIL import Image

from auditor.attack import ATTACKS, BATTERY, BY_NAME, COMPARISON, PRESETS, GradientMatching
from auditor.cli import main as cli
from auditor.cli.catalogue import listing
from auditor.document_options import DocumentOptions
from auditor.errors import UsageError
from auditor.gate_options import GateOptions
from auditor.output_options import ScanFiles, WorkOptions
from auditor.pipeline.single_attack.files import FILES, FRAMES, RESULT
from auditor.pipeline.single_attack.named import label_of
from auditor.probe.video import read_video
from auditor.records import Reconstruction, Skipped

ROOT = Path(__file__).parents[2]
NETS = """
import torch
from torch import nn

def flat():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 8 * 8, 6))

class EverySecond(nn.Sequential):
    def forward(self, x):
        return super().forward(x[:, :, ::2])

def half():
    torch.manual_seed(0)
    return EverySecond(nn.Flatten(), nn.Linear(2 * 3 * 8 * 8, 6))

def own_loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)

def conv(channels=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(channels, 8, 3, padding=1, stride=(1, 2, 2)), nn.GELU(), nn.Flatten(), nn.Linear(8 * 4 * 4 * 4, 6)
    )
"""
SHAPE = ("--input-shape", "3,4,8,8", "--layout", "NCTHW", "--device", "cpu")


@pytest.fixture
def run(run, tmp_path):
    """Run `fl-audit attack ARGS` in this process, beside nets.py; return code, stdout, stderr."""
    (tmp_path / "nets.py").write_text(NETS)
    return functools.partial(run, "attack")


def clip(path: Path, shape=(6, 20, 12, 3), seed=0) -> Path:
    frames = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    np.savez(path, clip=frames)
    return path


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "arrays.npz") as arrays:
        return dict(arrays)


def test_a_closed_form_gives_the_clip_back_and_everything_is_written(run, tmp_path):
    code, out, err = run("nets.py:flat", *SHAPE, "--attack", "linear-input", "--json", "--out", "exact")
    assert code == 0, err
    found = json.loads(out, parse_constant=pytest.fail)
    conforms(found, "attack")
    assert found["outcome"]["code"] == "SOLVED"
    assert (found["grade"], found["score"]["rank"]) == ("EXACT", 1)
    assert found["score"]["psnr"] == "inf" or found["score"]["psnr"] > 60
    assert found["null"]["clip"] != "park_walker"
    assert found["null"]["psnr"] < 20 < found["score"]["gain"]
    assert found["certificate"]["update_residual"] < 1e-5
    assert found["knowledge"]["labels_from"] == "restored from the update"
    assert json.loads((tmp_path / "exact" / RESULT).read_text()) == found
    assert sorted(p.name for p in (tmp_path / "exact").iterdir()) == sorted([*FILES, *FRAMES, RESULT])
    # Independent witness: the probe as the shipped file gives it, in every form that was written.
    arrays = arrays_of(tmp_path / "exact")
    assert arrays["reconstruction"].shape == arrays["truth"].shape == (1, 4, 3, 8, 8)
    assert np.abs(arrays["reconstruction"] - arrays["truth"]).max() < 1e-3
    mse = float(((arrays["reconstruction"].astype(np.float64) - arrays["truth"]) ** 2).mean())
    assert mse == 0 or -10 * math.log10(mse) == pytest.approx(float(found["score"]["psnr"]), abs=0.1)
    levels = (arrays["truth"][0] * 255).round()
    for index in range(4):
        with Image.open(tmp_path / "exact" / "truth" / f"{index:03d}.png") as image:
            frame = np.asarray(image)
        assert (frame == levels[index].transpose(1, 2, 0)).all()
    animated = read_video(tmp_path / "exact" / "truth.apng", "truth", 99)
    assert torch.equal((animated * 255).round(), torch.from_numpy(levels))
    with Image.open(tmp_path / "exact" / "strip.png") as strip:
        assert strip.width > 4 * 90
        assert strip.height > 3 * 90


def test_half_a_clip_solved_exactly_is_not_called_recovered(run):
    code, out, err = run("nets.py:half", *SHAPE, "--attack", "linear-input", "--diagnose", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["outcome"]["code"] == "SOLVED"
    assert found["certificate"]["pixel_coverage"] == 0.5
    assert found["diagnosis"]["conclusion"]["code"] != "RECOVERED"


def test_a_search_tells_its_course_and_the_screen_says_the_same(run, tmp_path):
    code, out, err = run("nets.py:conv", *SHAPE, "--clip", "hand_box", "--steps", "70", "--label", "2", "--diagnose")
    assert code == 0, err
    found = json.loads((tmp_path / "fl-audit-attack" / RESULT).read_text())
    assert found["clip"]["labels"] == found["labels"] == [2]
    assert found["steps"] == 70
    curve = found["curve"]
    assert [point[0] for point in curve] == [12, 23, 35, 47, 58, 70]
    assert curve[-1][3] == pytest.approx(found["score"]["psnr"], abs=0.1)
    assert curve[-1][3] > curve[0][3]
    objectives = [point[2] for point in curve]
    assert objectives == sorted(objectives, reverse=True)
    assert objectives[-1] == found["objective"]
    told = found["diagnosis"]
    assert told["update_at_truth"] < 1e-5
    assert told["labels_right"]
    assert told["truth_started"]["course"][-1][1] == told["truth_started"]["psnr"]
    assert told["conclusion"]["text"] in out
    assert f"{found['score']['psnr']:.1f} dB" in out
    assert "fl-audit-attack" in out


def test_the_same_seed_gives_the_same_clip_and_another_seed_another(run, tmp_path):
    made = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("nets.py:conv", *SHAPE, "--steps", "60", "--seed", seed, "--out", folder)[0] == 0
        made.append(arrays_of(tmp_path / folder)["reconstruction"])
    assert (made[0] == made[1]).all()
    assert (made[0] != made[2]).any()


def test_a_folder_of_an_earlier_attack_is_replaced_and_other_files_stay(run, tmp_path):
    assert run("nets.py:flat", *SHAPE, "--attack", "linear-input")[0] == 0
    folder = tmp_path / "fl-audit-attack"
    (folder / "reconstruction" / "099.png").write_bytes(b"of a longer clip")
    (folder / "notes.txt").write_text("mine")
    first = json.loads((folder / RESULT).read_text())
    assert run("nets.py:flat", *SHAPE, "--attack", "linear-input", "--clip", "hand_box", "--force")[0] == 0
    assert json.loads((folder / RESULT).read_text())["clip"] != first["clip"]
    assert not (folder / "reconstruction" / "099.png").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_what_no_attack_wrote_is_never_overwritten(run, tmp_path):
    (tmp_path / "mine" / "truth").mkdir(parents=True)
    code, _, err = run("nets.py:flat", *SHAPE, "--attack", "linear-input", "--out", "mine")
    assert code == 2
    assert "truth" in error_after_progress(err)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["truth"]


def test_a_users_clip_of_another_size_and_a_reference_of_his_own(run, tmp_path):
    clip(tmp_path / "own.npz")
    Image.fromarray(np.full((30, 30, 3), 90, np.uint8)).save(tmp_path / "scene.png")
    arguments = ("nets.py:conv", *SHAPE, "--attack", "gradient-matching-r1", "--clip", "own.npz", "--steps", "60")
    code, out, err = run(*arguments, "--reference", "scene.png", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["clip"]["name"], found["clip"]["kind"]) == ("own.npz", "user")
    assert found["attack"]["reference"] == "scene.png"
    # A frame of one colour, 90 of 255: what the copy of the reference scores is known.
    truth = arrays_of(tmp_path / "fl-audit-attack")["truth"][0].astype(np.float64)
    expected = -10 * math.log10(((truth - 90 / 255) ** 2).mean())
    assert found["score"]["baselines"]["reference copy"] == pytest.approx(expected, abs=0.05)
    assert found["score"]["copy"]["psnr"] == found["score"]["baselines"]["reference copy"]
    notes = found["attack"]["reference_notes"]
    assert any("single colour" in note for note in notes)
    assert any("resized from 30x30" in note for note in notes)


def test_several_references_are_interpolated_and_one_is_too_few_for_them(run, tmp_path):
    clip(tmp_path / "own.npz")
    for name, value in (("a", 60), ("b", 180)):
        Image.fromarray(np.full((30, 30, 3), value, np.uint8)).save(tmp_path / f"{name}.png")
    several = ("nets.py:conv", *SHAPE, "--attack", "gradient-matching-rk", "--clip", "own.npz", "--steps", "60")
    code, out, err = run(*several, "--reference", "a.png", "--reference", "b.png", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["attack"]["reference_frames"] == 2
    assert {"reference copy", "newest reference", "reference median"} <= found["score"]["baselines"].keys()
    code, _, err = run(*several, "--reference", "first:1", "--force")
    assert code == 2
    assert "the attack with one does the same" in error_after_progress(err)


def test_batches_are_scored_clip_by_clip(run):
    code, out, err = run("nets.py:conv", *SHAPE, "--batch", "2", "--known-label", "--steps", "60", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found["clips_psnr"]) == 2
    assert found["clips_psnr"][0] == pytest.approx(found["score"]["psnr"])
    assert found["knowledge"]["labels_from"] == "assumed known"


def test_an_attack_meets_the_defences_in_the_order_that_they_are_given_in(run):
    code, out, err = run(
        "nets.py:conv", *SHAPE, "--steps", "80", "--defence", "top-k:0.50", "--defence", "quantise:8", "--json",
        "--diagnose",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert found["protocol"]["defence"] == ["top-k:0.5", "quantise:8"]
    assert found["knowledge"]["labels_from"] == "restored from the update"
    assert found["diagnosis"]["update_at_truth"] < 1e-4
    assert 5.0 < found["diagnosis"]["exposure"] < 60.0


def test_a_canary_is_read_bit_by_bit(run):
    code, out, _ = run("nets.py:flat", *SHAPE, "--attack", "linear-input", "--clip", "canary", "--json")
    assert code == 0
    bits = json.loads(out)["score"]["bits"]
    assert bits["hits"] == bits["trials"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--attack", "gradient-machting"], 2, "did you mean gradient-matching?"),
        (["--attack", "\x1b[31mred"], 2, "there is no attack [31mred"),
        (["--clip", "nowhere.mp4"], 2, "there is no clip nowhere.mp4"),
        (["--clip", "park-walker"], 2, "did you mean park_walker?"),
        (["--clip", "nets.py"], 2, "cannot decode nets.py"),
        (["--clip", "broken.npz"], 2, "cannot read broken.npz"),
        (["--clip", "flat.npz"], 2, "3 dimensions"),
        (["--clip", "grey.npz"], 2, "single colour"),
        (["--clip", "two"], 2, "holds 2 clips"),
        (["--clip", "empty"], 2, "holds no clip"),
        (["--max-time", "0"], 2, "not a duration"),
        (["--max-time", "1e9s"], 2, "not a duration"),
        (["--max-time", "0.001s"], 4, "inconclusive: one step takes"),
        (["--label", "6"], 2, "give 0 to 5"),
        (["--label", "one"], 2, "no class of this model"),
        (["--attack", "linear-input", "--restarts", "2"], 2, "has no restarts"),
        (["--reference", "grey.npz"], 2, "uses no reference frame"),
        (["--attack", "gradient-matching-r1", "--reference", "gone.png"], 2, "there is no gone.png"),
        (["--attack", "gradient-matching-r1", "--reference", "first:9"], 2, "is not first:K"),
        (["--attack", "gradient-matching-r1", "--reference", "nets.py"], 2, "nets.py"),
        (["--attack", "patch-embedding"], 3, "does not apply"),
        (["--attack", "layer-recursion", "--defence", "sign"], 3, "it does not know the defence sign"),
        (["--defence", "banana"], 2, "top-k:SHARE"),
        (["--defence", "top-k:2"], 2, "0 < SHARE <= 1"),
        (["--defence", "gaussian:1", "--restored-label"], 2, "no rule knows the defence gaussian:1"),
        (["--restored-label", "--loss", "nets.py:own_loss"], 2, "no label can be restored here"),
        (["--out", "nets.py"], 2, "is a file"),
        (["--out", "nets.py/below"], 2, "cannot write"),
    ],
)
def test_a_refusal_is_one_line_and_leaves_nothing(run, tmp_path, arguments, code, says):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    clip(tmp_path / "flat.npz", shape=(6, 20, 3))
    np.savez(tmp_path / "grey.npz", clip=np.full((6, 8, 8, 3), 128, np.uint8))
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    for name in "ab":
        clip(tmp_path / "two" / f"{name}.npz")
    before = sorted(tmp_path.rglob("*"))
    got, out, err = run("nets.py:conv", *SHAPE, *arguments)
    assert (got, out) == (code, ""), err
    assert says in error_after_progress(err)
    assert [p for p in sorted(tmp_path.rglob("*")) if "__pycache__" not in p.parts] == before


def test_an_attack_that_fails_or_gives_up_is_told_with_its_reason(run, monkeypatch, tmp_path):
    for because, code in (("out-of-budget", 4), ("failed", 5), ("not-applicable", 3)):
        answer = Skipped(stage="invert", what="x", because=because, reason="the moon was full", remedy="wait")
        monkeypatch.setattr(GradientMatching, "invert", lambda *args, _answer=answer: _answer)
        got, _, err = run("nets.py:conv", *SHAPE)
        assert got == code
        assert "the moon was full" in error_after_progress(err)
    assert not (tmp_path / "fl-audit-attack").exists()


def test_the_attack_gets_no_truth(run, monkeypatch):
    """Whatever an attack is handed holds no tensor that equals the clip: only the update, and R1's own frame."""
    seen = []
    real = GradientMatching.invert

    def spy(self, view, budget, seed):
        seen.append((view, budget))
        made = real(self, view, budget, seed)
        assert isinstance(made, Reconstruction)
        return made

    monkeypatch.setattr(GradientMatching, "invert", spy)
    assert run("nets.py:conv", *SHAPE, "--steps", "60")[0] == 0
    (view, budget), *more = seen
    assert not more
    assert view.knowledge.reference is None
    assert view.update.gradients.keys() == dict(view.target.model.named_parameters()).keys()
    assert budget.checkpoints == 6


def test_interrupting_leaves_one_line_and_no_folder(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    err = tmp_path / "err.txt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    waiting = "import auditor.attack.matching.gradient_matching as g, time, sys\n" + (
        "def slow(*a):\n    print('[here]', file=sys.stderr, flush=True); time.sleep(60)\n"
        "g.GradientMatching.invert = slow\nsys.argv[0] = 'fl-audit'\nfrom auditor.cli.main import main\nmain()\n"
    )
    with err.open("w") as to_err:
        job = subprocess.Popen(
            [sys.executable, "-c", waiting, "attack", "nets.py:conv", *SHAPE, "--out", "deep/er"],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=to_err,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        while "[here]" not in err.read_text():
            assert job.poll() is None, err.read_text()
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
        out, _ = job.communicate(timeout=60)
    assert (job.returncode, out) == (130, b"")
    told = [x for x in err.read_text().splitlines() if not x.startswith("[")]
    assert told == ["fl-audit: interrupted; no result was written"]
    assert not (tmp_path / "deep").exists()


def test_attack_takes_every_option_of_scan_that_says_what_the_model_and_the_client_are():
    def named(command):
        return set(inspect.signature(command).parameters)

    of_the_audit = {"probes", "preset", "what_if", "malicious_server", "fail_on", "output", "sr", "lpips", "faces"}
    of_the_audit |= {"layers"}
    of_the_audit |= {"replay", "sign_key"} | {
        f.name for kind in (GateOptions, ScanFiles, WorkOptions, DocumentOptions) for f in fields(kind)
    }
    assert named(cli.scan) - of_the_audit <= named(cli.attack)


def test_help_names_attack_after_scan_and_needs_no_torch():
    script = (
        "import sys\nsys.argv = ['fl-audit', *{args}]\nfrom auditor.cli.main import main\n"
        "try:\n    main()\nfinally:\n    assert not {{'torch', 'onnx', 'numpy', 'PIL'}} & set(sys.modules)\n"
    )
    for args in (["--help"], ["attack", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", script.format(args=args)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    commands = [c.name for c in cli.app.registered_commands]
    assert commands[:2] == ["scan", "attack"]


def test_what_only_serves_comparison_stands_apart_from_what_an_audit_runs():
    run_by_presets = {a.name for p in PRESETS.values() for a in p.with_several_references().attacks}
    assert {a.name for a in BATTERY} == run_by_presets | {"gradient-matching"}
    told = listing("attacks")
    apart = told.index("for comparison")
    assert all((told.index(f" {a.name} ") > apart) == (a in COMPARISON) for a in ATTACKS)


def test_every_attack_of_the_catalogue_can_be_named():
    assert len(BY_NAME) == len(ATTACKS)


@pytest.mark.parametrize(
    ("text", "kind", "label"),
    [
        ("3", "class", 3),
        ("4,1, 4", "classes", (1, 4)),
        ("2", "classes", (2,)),
        ("1", "binary", 1),
        ("-0.5", "value", -0.5),
    ],
)
def test_a_label_is_read_as_the_loss_needs_it(text, kind, label):
    assert label_of(text, "clip", 6, kind) == label


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-1", "class"),
        ("6", "class"),
        ("1,2", "class"),
        ("", "classes"),
        ("2", "binary"),
        ("nan", "value"),
        ("x", "value"),
    ],
)
def test_a_label_that_does_not_fit_is_refused(text, kind):
    with pytest.raises(UsageError, match="--label"):
        label_of(text, "clip", 6, kind)
