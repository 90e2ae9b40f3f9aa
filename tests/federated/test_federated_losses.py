"""Every loss, output and BatchNorm mode against a few lines of plain PyTorch; labels in the form each loss needs."""

import pytest
import torch
from bench_nets import SPEC, clip, seeded
from torch import nn
from torch.nn import functional as F

from auditor.errors import UsageError
from auditor.federated import LocalClient, assign_labels, batch_labels, guess_loss, make_loss, observe
from auditor.federated.labels import MOST_PRESENT
from auditor.model.output import activation
from auditor.model.video import VideoModel
from auditor.records import FederatedProtocol, OutputSpec

CLIPS = torch.stack([clip(1), clip(2), clip(3)])


class Net(nn.Module):
    """A net with BatchNorm whose answer comes in the form asked for."""

    def __init__(self, classes: int = 4, form: str = "plain") -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv3d(3, 6, 3, padding=1, stride=(1, 2, 2)), nn.BatchNorm3d(6)
        self.head, self.aux, self.form = nn.Linear(6, classes), nn.Linear(6, classes), form

    def forward(self, x):
        f = torch.relu(self.norm(self.conv(x)))
        if self.form == "frames":
            return self.head(f.mean((3, 4)).transpose(1, 2))
        z = self.head(f.mean((2, 3, 4)))
        aux = self.aux(f.mean((2, 3, 4)))
        if self.form in ("softmax", "log_softmax"):
            return getattr(F, self.form)(z, 1)
        forms = {"tuple": (z, aux), "dict": {"aux": aux, "logits": z}, "sigmoid": z.sigmoid(), "squeezed": z.squeeze(1)}
        return forms.get(self.form, z)


def logits_of(net, clips):
    """What a training loop takes the loss of, written out for each form."""
    out = net(clips.transpose(1, 2))
    return {"tuple": lambda: out[0], "dict": lambda: out["logits"]}.get(net.form, lambda: out)()


def plain_loss(loss, out, y, form):
    if loss == "cross-entropy":
        if form == "frames":
            return sum(F.cross_entropy(out[:, t], y) for t in range(out.shape[1])) / out.shape[1]
        if form == "softmax":
            return F.nll_loss(out.log(), y)
        return F.nll_loss(out, y) if form == "log_softmax" else F.cross_entropy(out, y)
    if form == "frames":
        y = y if y.is_floating_point() else F.one_hot(y, out.shape[2]).float()
        each = F.binary_cross_entropy_with_logits if loss == "bce" else F.mse_loss
        return sum(each(out[:, t], y) for t in range(out.shape[1])) / out.shape[1]
    if loss == "bce":
        y = y.reshape(out.shape)
        return nn.BCELoss()(out, y) if form in ("sigmoid", "softmax") else nn.BCEWithLogitsLoss()(out, y)
    y = y.reshape(out.shape) if y.is_floating_point() else F.one_hot(y, out.shape[1]).float()
    return nn.MSELoss()(out, y)


def client_for(net, classes, loss, mode="eval", **protocol):
    model = VideoModel(net, SPEC)
    with torch.enable_grad():
        output = OutputSpec(activation=activation(model(CLIPS[:1])))
    names = tuple(name for name, _ in model.named_parameters())
    made = make_loss(loss, output, classes)
    return LocalClient(model, FederatedProtocol(sent=names, loss=loss, bn=mode, **protocol), made, classes)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(
    ("loss", "classes", "form"),
    [
        *((loss, 4, form) for loss in ("cross-entropy", "bce", "mse") for form in ("plain", "tuple", "dict", "frames")),
        ("cross-entropy", 4, "softmax"),
        ("cross-entropy", 4, "log_softmax"),
        ("bce", 4, "sigmoid"),
        ("mse", 4, "softmax"),
        ("bce", 1, "plain"),
        ("bce", 1, "squeezed"),
        ("bce", 1, "sigmoid"),
        ("mse", 1, "plain"),
        ("mse", 1, "squeezed"),
    ],
)
def test_the_update_is_that_of_a_plain_training_step(loss, classes, form, mode):
    net = seeded(lambda: Net(classes, form))
    client = client_for(net, classes, loss, mode)
    first = assign_labels(["probe"], classes, kind=client.loss.kind)[0]
    y = client.targets(batch_labels(first, len(CLIPS), classes, kind=client.loss.kind))
    update = observe(client, CLIPS, y)

    twin = seeded(lambda: Net(classes, form)).train(mode == "train")
    plain_loss(loss, logits_of(twin, CLIPS), y, form).backward()
    for name, parameter in twin.named_parameters():
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(update.gradients[name], wanted, rtol=1e-4, atol=1e-6), name
    assert any(bool(g.any()) for g in update.gradients.values())


def test_a_user_loss_is_called_with_logits_and_targets_or_with_everything():
    def focal(outputs, targets):
        entropy = F.cross_entropy(outputs, targets, reduction="none")
        return ((1 - (-entropy).exp()) ** 2 * entropy).mean()

    def deep(outputs, targets):
        return F.cross_entropy(outputs[0], targets) + 0.4 * F.cross_entropy(outputs[1], targets)

    deep.raw_outputs = True
    for function, form in ((focal, "plain"), (deep, "tuple")):
        net = seeded(lambda form=form: Net(4, form))
        names = tuple(name for name, _ in net.named_parameters())
        loss = make_loss("mine.py:loss", OutputSpec(), 4, function)
        client = LocalClient(VideoModel(net, SPEC), FederatedProtocol(sent=names), loss, 4)
        y = client.targets((0, 1, 2))
        client.check(CLIPS, y)
        update = observe(client, CLIPS, y)
        function(net(CLIPS.transpose(1, 2)), y).backward()
        for name, parameter in net.named_parameters():
            assert torch.allclose(
                update.gradients[name], parameter.grad if parameter.grad is not None else 0 * parameter
            )


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda o, t: o.argmax(1).float().mean(), "cannot be differentiated twice"),
        (lambda o, t: o.sum(1), r"shape \(3,\), not one number"),
        (lambda o, t: 0.5, "float, not one number"),
        (lambda o, t: (o.sum() * 0).log(), "is -inf"),
        (lambda o, t: 1 / 0, "ZeroDivisionError"),
        (lambda o: o.mean(), "TypeError"),
    ],
)
def test_a_user_loss_that_does_not_work_is_told_in_one_line(function, message):
    net = seeded(Net)
    client = LocalClient(VideoModel(net, SPEC), FederatedProtocol(), make_loss("m.py:f", OutputSpec(), 4, function), 4)
    with pytest.raises(UsageError, match=message) as caught:
        client.check(CLIPS, client.targets((0, 1, 2)))
    assert "\n" not in str(caught.value)


def test_losses_that_do_not_fit_the_output_are_refused():
    with pytest.raises(UsageError, match=r"one number a clip.*--loss bce"):
        make_loss("cross-entropy", OutputSpec(), 1)
    with pytest.raises(UsageError, match="log-softmax"):
        make_loss("bce", OutputSpec(activation="log-softmax"), 4)
    with pytest.raises(UsageError, match="--loss hinge is unknown"):
        make_loss("hinge", OutputSpec(), 4)

    def odd(outputs, targets):
        return outputs.mean()

    odd.targets = "words"
    with pytest.raises(UsageError, match=r"targets is words; use one of class, classes, binary, value"):
        make_loss("m.py:odd", OutputSpec(), 4, odd)


@pytest.mark.parametrize(
    ("classes", "ends", "loss"),
    [(1, "none", "bce"), (1, "sigmoid", "bce"), (4, "sigmoid", "bce"), (4, "softmax", "cross-entropy"),
     (4, "none", "cross-entropy")],
)  # fmt: skip
def test_the_guessed_loss_fits_and_has_a_reason(classes, ends, loss):
    guess, why = guess_loss(classes, OutputSpec(activation=ends))
    assert guess == loss
    assert (ends in why) or ends == "none"
    make_loss(guess, OutputSpec(activation=ends), classes)


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_multi_label_probes_have_some_classes_and_never_all(classes):
    labels = assign_labels([f"clip{i}" for i in range(30)], classes, kind="classes")
    assert labels == assign_labels([f"clip{i}" for i in range(30)], classes, kind="classes")
    assert all(1 <= len(set(x)) == len(x) <= min(MOST_PRESENT, classes - 1) for x in labels)
    assert len(set(labels)) > 1
    shifted = batch_labels(labels[0], 2, classes, kind="classes")
    assert shifted[0] == labels[0] != shifted[1]
    assert batch_labels(labels[0], 2, classes, distinct=False, kind="classes") == (labels[0], labels[0])


def test_yes_or_no_and_values_are_labels_too():
    assert {assign_labels([f"c{i}"], 1, kind="binary")[0] for i in range(20)} == {0, 1}
    assert batch_labels(1, 3, 1, kind="binary") == (1, 0, 1)
    values = batch_labels(assign_labels(["c"], 1, kind="value")[0], 4, 1, kind="value")
    assert len(set(values)) == 4
    assert all(0.0 <= v < 1.0 for v in values)


def test_soft_labels_cost_on_probabilities_what_they_cost_on_logits():
    g = torch.Generator().manual_seed(0)
    logits, soft = torch.randn(4, 5, generator=g), torch.randn(4, 5, generator=g).softmax(1)
    wanted = F.cross_entropy(logits, soft)
    for ending, outputs in (("softmax", logits.softmax(1)), ("log-softmax", logits.log_softmax(1))):
        made = make_loss("cross-entropy", OutputSpec(activation=ending), 5)(outputs, soft)
        assert float(made) == pytest.approx(float(wanted), rel=1e-5)
