"""What a defence costs: a short training, and functions of a user's own."""

import numpy as np
import pytest
import torch

from auditor.errors import UsageError
from auditor.federated import make_loss
from auditor.option_rules import options_from
from auditor.options import DefendOptions
from auditor.pipeline.protection.judging import compared
from auditor.pipeline.protection.utility import accuracy, labelled, user_utility
from auditor.pipeline.training import trained
from auditor.records import Skipped

NET = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 16 * 16, 10))
"""


@pytest.fixture(scope="module")
def context_of(tmp_path_factory):
    """Return a set-up of a linear classifier under given defences."""
    from auditor.pipeline.scan import choose_device, load_target

    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(NET)
    base = {"model": f"{path}:net", "input_shape": "3,4,16,16", "device": "cpu"}
    target = load_target(options_from(DefendOptions, base), choose_device("cpu"))

    def made(*specs, loss="cross-entropy"):
        options = options_from(DefendOptions, {**base, "defence": list(specs), "loss": loss})
        return trained(target, options, make_loss(loss, target.output, target.classes, None))

    return made


def test_a_short_training_learns_and_noise_costs_accuracy(context_of):
    bare = context_of()
    clips = labelled(bare, 0)
    assert sorted(set(clips.trained_as)) == sorted(set(clips.asked_as))
    assert clips.classes == 7
    learned = accuracy(bare, clips, 60)
    assert learned.value > 3.0 * learned.chance
    assert accuracy(bare, clips, 60).value == learned.value  # draws are its own
    drowned = accuracy(context_of("gaussian:1000"), clips, 60)
    assert drowned.value < learned.value - 0.2
    # Adam does not ask how large updates are.
    assert accuracy(context_of("clip:1e-3"), clips, 60).value > 3.0 * learned.chance


def test_what_the_server_does_costs_as_well(context_of):
    bare = context_of()
    clips = labelled(bare, 0)
    assert accuracy(context_of("server:gaussian:1000"), clips, 20).value < accuracy(bare, clips, 20).value


def test_the_model_is_as_it_was(context_of):
    context = context_of()
    before = {name: value.clone() for name, value in context.target.parameters.items()}
    accuracy(context, labelled(context, 0), 3)
    assert all(torch.equal(before[name], value) for name, value in context.target.parameters.items())


def test_clips_of_one_class_say_nothing_of_several_labels(context_of):
    found = labelled(context_of(loss="bce"), 0)
    assert isinstance(found, Skipped)
    assert "--utility" in found.remedy


def test_a_function_of_ones_own_gets_the_defence(context_of, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\n"
        "def norm(defence):\n"
        "    assert defence.specs == ('clip:2', 'server:gaussian:5')\n"
        "    sent = defence({'a': np.full(100, 3.0), 'b': np.zeros((2, 2))})\n"
        "    assert sent['b'].shape == (2, 2)\n"
        "    assert np.abs(defence.server(sent)['a'] - sent['a']).mean() > 1.0\n"
        "    return float(np.linalg.norm(sent['a']))\n"
    )
    found = user_utility(f"{path}:norm")(context_of("clip:2", "server:gaussian:5"))
    assert found.value == pytest.approx(2.0, rel=1e-5)
    assert found.measure == "norm"
    assert found.chance is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def f(d):\n    return float('nan')", "returned nan"),
        ("def f(d):\n    return float('-inf')", "returned -inf"),
        ("def f(d):\n    return 'much'", "raised ValueError"),
        ("def f(d):\n    return None", "raised TypeError"),
        ("def f():\n    return 1.0", "raised TypeError"),
        ("def f(d):\n    raise RuntimeError('broken\\nin two')", "raised RuntimeError: broken"),
        ("f = 3", "defines no function f"),
        ("raise OSError('no')", "raised OSError"),
    ],
)
def test_a_broken_function_is_one_line(context_of, tmp_path, body, says):
    path = tmp_path / "mine.py"
    path.write_text(body)
    with pytest.raises(UsageError, match=says) as refused:
        user_utility(f"{path}:f")(context_of())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("source", ["", "nothing.py:f", "mine.py", ":f"])
def test_a_function_that_is_not_there_is_refused(source):
    with pytest.raises(UsageError, match="there is no file"):
        user_utility(source)


def test_cosine_and_signal_to_noise_ratio_are_those_of_whole_updates():
    rng = np.random.default_rng(0)
    bare, noise = rng.standard_normal(10_000), 0.1 * rng.standard_normal(10_000)
    parts = lambda x: {"a": torch.from_numpy(x[:9_000]), "b": torch.from_numpy(x[9_000:])}  # noqa: E731
    cosine, snr = compared(parts(bare + noise), parts(bare))
    assert snr == pytest.approx(20.0, abs=0.2)
    assert cosine == pytest.approx(1.0 / np.sqrt(1.01), abs=1e-3)
    assert compared(parts(bare), parts(bare)) == (pytest.approx(1.0), float("inf"))
    # A tenth of the entries was not sent.
    cosine, snr = compared({"a": parts(bare)["a"]}, parts(bare))
    assert snr == pytest.approx(10.0, abs=0.2)
    assert cosine == pytest.approx(np.sqrt(0.9), abs=5e-3)
    zero = {"a": torch.zeros(3)}
    assert compared(zero, zero) == (0.0, float("inf"))
