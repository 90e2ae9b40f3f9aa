"""`fl-audit defend`: from a model to where protection begins, and every way in which it ends early."""

import functools
import json

import pytest
from conformity import conforms

import auditor
from auditor.attack import LEAST_STEPS

NETS = """
import torch
from torch import nn

def leaking():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 16 * 16, 10))

def pooled():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1, stride=2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 10)
    )
"""
SHAPE = ("--input-shape", "3,4,16,16", "--device", "cpu")


@pytest.fixture
def run(run, tmp_path):
    """Run `fl-audit defend ARGS` in this process, beside nets.py; return code, stdout, stderr."""
    (tmp_path / "nets.py").write_text(NETS)
    return functools.partial(run, "defend")


@pytest.fixture
def few_steps(monkeypatch):
    """As many steps a search as the least that counts: what is looked at comes of what they found."""
    monkeypatch.setattr("auditor.pipeline.protection.search.MOST_STEPS", LEAST_STEPS)


@pytest.mark.slow
def test_the_weakest_noise_is_that_of_a_grid_by_hand(run, tmp_path):
    code, out, _ = run("nets.py:leaking", *SHAPE, "--defence", "gaussian", "--defence", "clip", "--json", "--out", "d")
    found = json.loads(out)
    assert code == 0
    conforms(found, "defend")
    assert found["bare"]["gone"] is False
    assert found["bare"]["grade"] == "EXACT"
    noise, clip = found["families"]
    assert clip["weakest"] is None
    assert clip["told"]
    assert clip["there"]["gone"] is False
    assert noise["there"]["gone"] is False
    assert noise["weakest"]["gone"] is True
    assert all(s["gone"] == (s["strength"] >= noise["weakest"]["strength"]) for s in noise["settings"])
    sigma = float(noise["weakest"]["specs"][0].partition(":")[2])
    assert sigma == pytest.approx(_by_hand(tmp_path), rel=0.5)
    # What is recommended hides the clip from linear analysis as well, so it is no weaker.
    assert noise["exposed"]["determined"] > 0.5
    assert noise["advised"]["gone"] is True
    assert noise["advised"]["strength"] > noise["weakest"]["strength"]
    # A linear net hardly learns under that much noise.
    assert noise["utility"] < (found["utility"]["bare"] + found["utility"]["chance"]) / 2
    assert found["recommendations"] == []
    assert "1 cost more than half of what training gains, and are not recommended" in found["sentence"]
    assert 0.0 < noise["utility"] <= 1.0
    assert found["utility"]["bare"] > 3.0 * found["utility"]["chance"]
    assert json.loads((tmp_path / "d" / "defend.json").read_text()) == found
    page = (tmp_path / "d" / "defend.html").read_text()
    assert page.count("<circle") == len(noise["settings"]) + (len(clip["settings"]) > 1) * len(clip["settings"])
    assert "<script" not in page
    assert noise["advised"]["specs"][0] in page
    assert (tmp_path / "d" / "defend.md").read_text().count("| gaussian |") == 1


def _by_hand(tmp_path) -> float:
    """The weakest noise of a grid by factors of 1.3 at which the one attack that knows noise finds no clip."""
    sigma, last = 1.4, 1.4
    while sigma > 0.1:
        for clip in ("park_walker", "treadmill_two", "park_jump"):
            made = auditor.attack(
                str(tmp_path / "nets.py:leaking"), input_shape="3,4,16,16", device="cpu", clip=clip,
                attack="least-squares-matching", steps=300, restarts=1, defence=[f"gaussian:{sigma}"],
            )  # fmt: skip
            if made.grade.name != "NOT_SHOWN":
                return last
        sigma, last = sigma / 1.3, sigma
    return last


@pytest.mark.usefixtures("few_steps")
def test_a_net_that_leaks_nothing_gets_no_advice(run, tmp_path):
    code, out, _ = run("nets.py:pooled", *SHAPE, "--out", "d")
    assert code == 0
    assert "nothing is recommended" in out
    assert "no protection" in out
    found = json.loads((tmp_path / "d" / "defend.json").read_text())
    assert found["bare"]["gone"]
    assert not found["families"]
    assert not found["recommendations"]
    assert "there is no finding to hide" in (tmp_path / "d" / "defend.html").read_text()


@pytest.mark.usefixtures("few_steps")
def test_ones_own_utility_is_measured_and_an_interrupted_search_goes_on(run, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def bytes_sent(defence):\n    return 7.0 - len(defence.specs)\n")
    command = ("nets.py:leaking", *SHAPE, "--defence", "gaussian:1000", "--utility", "mine.py:bytes_sent", "--json")

    def interrupted(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("auditor.pipeline.protection.search._utility", interrupted)
        code, out, err = run(*command)
    assert (code, out) == (130, "")
    assert "kept, and the same command goes on" in " ".join(err.split())
    code, out, err = run(*command)
    assert "going on with" in err
    assert not (tmp_path / "fl-audit-defend" / "unfinished").exists()
    found = json.loads(out)
    assert code == 0
    assert found["utility"] == {"measure": "bytes_sent", "bare": 7.0, "chance": None, "rounds": 0}
    assert found["families"][0]["utility"] == 6.0
    assert found["families"][0]["settings"][0]["snr"] < -60.0


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (("--defence", "gausian"), 2, "did you mean gaussian"),
        (("--defence", "gaussian:0"), 2, "cannot be read"),
        (("--defence", "gaussian:-3"), 2, "cannot be read"),
        (("--defence", "gaussian:1e999"), 2, "cannot be read"),
        (("--defence", "sign", "--defence", "sign"), 2, "given twice"),
        (("--utility", "absent.py:f"), 2, "--utility: there is no file"),
        (("--utility", "nets.py:nothing"), 2, "defines no function nothing"),
        (("--utility", "nets.py"), 2, "--utility: there is no file"),
        (("--max-time", "0"), 2, "--max-time"),
        (("--max-time", "1ms"), 2, "--max-time"),
        (("--until", "never"), 2, "--until"),
        (("--dp-claim", "epsilon=1,delta=1e-5"), 2, "--dp-claim"),
        (("--out", "nets.py"), 2, "is a file"),
        (("--probes", "absent.npz"), 2, "absent.npz"),
        (("--max-time", "1s"), 4, "give more --max-time"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_code(run, tmp_path, given, code, says):
    found, out, err = run("nets.py:leaking", *SHAPE, *given)
    assert found == code, err
    assert says in err.replace("\n", " ")
    assert out == ""
    assert len([line for line in err.strip().splitlines() if line.startswith("fl-audit:")]) == 1
    assert not (tmp_path / "fl-audit-defend").exists()


def test_an_interrupt_leaves_nothing(run, tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("auditor.pipeline.protection.judging.Judge.bare", interrupted)
    code, out, err = run("nets.py:leaking", *SHAPE)
    assert code == 130
    assert "nothing was written" in err
    assert out == ""
    assert not (tmp_path / "fl-audit-defend").exists()
