"""What a client can check before it trains a model that a server sent: signs of a layer or head made to read clips.

That a manipulated model is conspicuous before training begins is argued by Wang & Li 2025 (arXiv 2506.20651), and
improbable weights and gradients as its marks by Carletti et al. 2025 (arXiv 2511.10502); the tests here are our own.
They look for what was published, as it was published: a server that knows them can hide better, so a model that passes
is not thereby trustworthy.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.federated.client import LocalClient
from auditor.records import Clips, Clock, Label, Layer, Target, counting, record
from auditor.results.asides import Check

# Rows of fewer weights (depthwise 1x1, one input channel) are alike by chance or by necessity.
_LEAST_WEIGHTS = 5
# Relative difference of rows that are copies; training or a random start never comes near it.
_SAME = 1e-5
# Copies in one layer: a handful of units can collapse in training, a layer of bins or a silenced head is copies only.
MOST_COPIES, COPY_SHARE = 3, 0.1
# Root-mean-square weight times the root of fan-in: 0.6 to 2.5 after the usual initialisations.
MOST_GAIN = 50.0
# exp(-10): a class that is 22,000 times rarer than any other is not in the training plan.
MOST_BIAS_GAP = 10.0
# Share of the gradient below the head that one of three or more classes brings on the same clips.
MOST_CLASS_SHARE = 0.9
# The same for one of several clips, each divided by how wrong the model is about it.
MOST_CLIP_SHARE = 0.98
_LEAST_CLIPS = 3
# A clip that the model gets right to this probability has no gradient for a good reason.
_LEARNT = 0.9
# Floating-point operations of a forward pass: the tests take eight such passes, which is minutes beyond that.
MOST_OPERATIONS = 1e11
# Share of the sent tensors that no clip moves.
MOST_DEAD = 0.5

_TINY = 1e-30


@record
class _Head:
    name: str
    weight: Float[Tensor, "class feature"]
    weight_name: str
    bias: Float[Tensor, " class"] | None
    names: frozenset[str]


@counting()
def check_model(
    target: Target, client: LocalClient, clips: Clips, labels: Sequence[Label], seconds: float
) -> tuple[Check, ...]:
    """Return the outcome of every test; the clips are the client's own batch, or public ones before it has any.

    The weights alone are looked at first, then gradients of single clips: as many as begin within `seconds` of
    work, and none where one alone computes more than `MOST_OPERATIONS`.
    """
    head = _find_head(target)
    checks = (_copied_rows(target), _thresholds(target), _scale(target), _one_row(target, head), _bias(target, head))
    if target.step is not None and target.step.operations > MOST_OPERATIONS:
        reason = f"a pass over one clip takes {target.step.operations:.1e} operations (at most {MOST_OPERATIONS:.0e})"
        return (*checks, *(_not_made(name, reason) for name in (_CLASS, _CLIP, _DEAD)))
    try:
        return (*checks, *_by_gradients(target, client, head, clips, labels, Clock(seconds)))
    except (RuntimeError, ValueError) as error:
        # BatchNorm in train mode may refuse single clips; what the weights alone tell stands.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return (*checks, *(_not_made(name, reason) for name in (_CLASS, _CLIP, _DEAD)))


def suspicious(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return the tests that did not pass."""
    return tuple(c for c in checks if c.passed is False)


# ------------------------------------------------------------------------------------------------------ weights alone


def _copied_rows(target: Target) -> Check:
    """Units that measure the same thing are the mark of an imprint (Fowl et al. 2022, arXiv 2110.13057)."""
    worst, where, most = 0.0, "", 0
    for name, rows in _matrices(target):
        count = int(_copies(rows).sum())
        share = count / len(rows)
        if count >= MOST_COPIES and share > worst:
            worst, where, most = share, name, count
    return Check(
        name="rows that are copies",
        passed=worst < COPY_SHARE,
        measured=f"{most} rows ({worst:.0%} of the layer) repeat another" if where else "no row repeats another",
        threshold=f"fewer than {MOST_COPIES} rows, or less than {COPY_SHARE:.0%} of a layer",
        why="neither training nor a random start makes equal units; copies let a server take differences of gradients",
        where=where,
    )


def _thresholds(target: Target) -> Check:
    """Copies that differ in their bias alone sort clips into bins."""
    most, where = 0, ""
    parameters = target.parameters
    for layer in target.layers:
        near = [x for x in target.layers if 0 <= x.index - layer.index <= 1]
        vectors = [parameters[n].detach().reshape(-1) for x in near for n in x.parameters if _is_vector(parameters[n])]
        for rows in _rows_of(target, layer):
            copies = _copies(rows)
            bias = next((v for v in vectors if len(v) == len(rows)), None)
            if bias is not None and bool(copies.any()):
                steps = len(torch.unique(bias[copies]))
                if steps > most:
                    most, where = steps, layer.name
    return Check(
        name="thresholds on copies",
        passed=most < MOST_COPIES,
        measured=f"{most} copies with different biases" if most else "none",
        threshold=f"fewer than {MOST_COPIES}",
        why="the same measurement with ordered biases sorts the clips of a batch into bins (Fowl et al. 2022)",
        where=where,
    )


def _scale(target: Target) -> Check:
    worst, where = 0.0, ""
    for layer in target.layers:
        if not _has_rows(layer):
            continue
        for name in layer.parameters:
            value = target.parameters[name].detach()
            if value.ndim < 2 or not value.numel():
                continue
            fan_in = value.shape[1] if value.ndim == 2 else value[0].numel()
            gain = float(value.double().square().flatten(1).mean(1).max().sqrt()) * math.sqrt(fan_in)
            if not gain <= worst:
                worst, where = gain, layer.name
    return Check(
        name="scale of the weights",
        passed=worst <= MOST_GAIN,
        measured=f"largest row: {worst:.3g} times 1/sqrt(fan-in)",
        threshold=f"at most {MOST_GAIN:g}",
        why="usual initialisations give 0.6 to 2.5, and training moves that little; a huge row drowns all others",
        where=where,
    )


def _one_row(target: Target, head: _Head | None) -> Check:
    name = "rows of the head"
    if head is None or target.classes < 2:
        return _not_made(name, "no classification head was found")
    lengths = head.weight.norm(dim=1)
    live = lengths > 0.0
    distinct = len(head.weight) - int(_copies(head.weight).sum()) if bool(live.any()) else 0
    # A head that starts at zero is honest: all rows are alike.
    single = int(live.sum()) == 1 or (target.classes > 2 and bool(live.all()) and distinct <= 1)
    return Check(
        name=name,
        passed=not single,
        measured=f"{int(live.sum())} of {len(lengths)} classes have weights of their own",
        threshold="all of them, or none in a fresh head",
        why="a head with one live class sends the gradient of that class's clips only (Wen et al. 2022, "
        "arXiv 2202.00580)",
        where=head.name,
    )


def _bias(target: Target, head: _Head | None) -> Check:
    name = "a bias that decides"
    if head is None or head.bias is None or target.classes < 2:
        return _not_made(name, "no classification head with a bias was found")
    ordered = head.bias.double().sort()[0]
    low, high = float(ordered[1] - ordered[0]), float(ordered[-1] - ordered[-2])
    gap = max(low, high)
    at = int(head.bias.argmin() if low >= high else head.bias.argmax())
    return Check(
        name=name,
        passed=gap <= MOST_BIAS_GAP,
        measured=f"class {at} lies {gap:.3g} from the next in log odds",
        threshold=f"at most {MOST_BIAS_GAP:g}",
        why="a lone class that is never, or always, predicted makes the clips of one class dominate (Wen et al. 2022)",
        where=f"class {at} of {head.name}",
    )


# ---------------------------------------------------------------------------------------------------------- gradients

_CLASS, _CLIP, _DEAD = "gradient of one class", "gradient of one clip", "disconnected parameters"


@record
class _ForwardTrace:
    """Gradients of single clips: squares below the head, how wrong the model was, names of what moved."""

    body: tuple[float, ...]
    wrong: tuple[float, ...]
    moved: frozenset[str]


def _by_gradients(
    target: Target, client: LocalClient, head: _Head | None, clips: Clips, labels: Sequence[Label], clock: Clock
) -> tuple[Check, ...]:
    body = [n for n in client.names if head is None or n not in head.names]
    classes = client.loss.kind == "class" and client.protocol.loss == "cross-entropy"
    squares: list[float] = []
    wrong: list[float] = []
    moved: set[str] = set()
    for clip, label in zip(clips, labels, strict=True):
        if squares and clock.left <= 0.0:
            break
        gradients = client(clip[None], client.targets((label,)))
        moved |= {n for n, g in gradients.items() if float(g.abs().max()) > _TINY}
        squares.append(sum(float(gradients[n].double().square().sum()) for n in body))
        wrong.append(1.0 - _probability(target, clip, label) if classes else 1.0)
    seen = _ForwardTrace(body=tuple(squares), wrong=tuple(wrong), moved=frozenset(moved))
    if not classes:
        reason = f"the loss is {client.protocol.loss}: what is usual is known for cross-entropy only"
        return _not_made(_CLASS, reason), _not_made(_CLIP, reason), _disconnected(client, head, seen)
    return _one_class(target, head, clips[: len(squares)]), _one_clip(seen), _disconnected(client, head, seen)


def _probability(target: Target, clip: Tensor, label: Label) -> float:
    assert not isinstance(label, tuple)
    with torch.no_grad():
        answer = torch.softmax(target.model(clip[None]).double(), dim=-1).reshape(-1, target.classes).mean(0)
    return float(answer[int(label)])


def _one_class(target: Target, head: _Head | None, clips: Clips) -> Check:
    """Compare |W'(p - e_y)| over all classes y: what the body would receive if the clips were of class y."""
    if head is None or target.classes < 3:
        return _not_made(_CLASS, "no head with three or more classes was found")
    with torch.no_grad():
        logits = target.model(clips).double().reshape(-1, target.classes)
    if not bool(torch.isfinite(logits).all()):
        return _not_made(_CLASS, "the model returns values that are not finite")
    p, w = torch.softmax(logits, dim=1), head.weight.double()
    mean = p @ w
    # |mean - w_y|^2 without a matrix for every class and clip
    norms = mean.square().sum(1)[:, None] - 2.0 * mean @ w.T + w.square().sum(1)[None]
    total = norms.clamp(min=0.0).sum(0)
    if not float(total.sum()) > 0.0:
        return _not_made(_CLASS, "the head is zero: nothing below it receives a gradient yet")
    share = float(total.max() / total.sum())
    return Check(
        name=_CLASS,
        passed=share <= MOST_CLASS_SHARE,
        measured=f"class {int(total.argmax())} brings {share:.1%} of what reaches the body",
        threshold=f"at most {MOST_CLASS_SHARE:.0%}",
        why="in an honest head every class moves the body; where one does, a batch's update is that class's clips'",
        where=f"class {int(total.argmax())} of {head.name}",
    )


def _one_clip(seen: _ForwardTrace) -> Check:
    """Compare the gradients of single clips below the head, each by how wrong the model is about it."""
    shares = [g / w**2 for g, w in zip(seen.body, seen.wrong, strict=True) if w > 1.0 - _LEARNT]
    if len(shares) < _LEAST_CLIPS:
        return _not_made(_CLIP, f"fewer than {_LEAST_CLIPS} clips that the model has yet to learn fitted into the time")
    total = sum(shares)
    if not 0.0 < total < math.inf:
        return _not_made(_CLIP, "no clip moves anything below the head, or one moves it to infinity")
    share = max(shares) / total
    return Check(
        name=_CLIP,
        passed=share <= MOST_CLIP_SHARE,
        measured=f"one of {len(shares)} clips brings {share:.1%} of the squared gradient below the head",
        threshold=f"at most {MOST_CLIP_SHARE:.0%}",
        why="clips that the model gets equally wrong move it about equally; where one does alone, no batch hides it",
    )


def _disconnected(client: LocalClient, head: _Head | None, seen: _ForwardTrace) -> Check:
    dead = [n for n in client.names if n not in seen.moved]
    if head is not None and not bool(head.weight.any()):
        return _not_made(_DEAD, "the head is zero: nothing below it receives a gradient yet")
    if not seen.moved:
        return _not_made(_DEAD, "the whole gradient is zero, or not a number")
    return Check(
        name=_DEAD,
        passed=len(dead) <= MOST_DEAD * len(client.names),
        measured=f"{len(dead)} of {len(client.names)} tensors receive no gradient",
        threshold=f"at most {MOST_DEAD:.0%} of the tensors",
        why="most of an honest net learns from every clip; cut paths leave room for parameters that only record",
        where=dead[0] if dead else "",
    )


def _not_made(name: str, why: str) -> Check:
    return Check(name=name, passed=None, measured="not made", threshold="", why=why)


# ------------------------------------------------------------------------------------------------------------ finding


def _find_head(target: Target) -> _Head | None:
    """Return the last matrix with one row a class, and the bias beside it (exporters may put it in the next layer)."""
    parameters, classes = target.parameters, target.classes
    for layer in reversed(target.layers):
        for name in layer.parameters:
            value = parameters[name].detach()
            flat = value.squeeze()
            if classes < 2 or flat.ndim != 2 or classes not in flat.shape or not _has_rows(layer):
                continue
            near = [x for x in target.layers if 0 <= x.index - layer.index <= 2]
            bias = next((n for x in near for n in x.parameters if parameters[n].numel() == classes), None)
            return _Head(
                name=layer.name,
                weight=flat if flat.shape[0] == classes else flat.T,
                weight_name=name,
                bias=None if bias is None else parameters[bias].detach().reshape(-1),
                names=frozenset({name} if bias is None else {name, bias}),
            )
    return None


def _matrices(target: Target) -> list[tuple[str, Tensor]]:
    return [(layer.name, rows) for layer in target.layers for rows in _rows_of(target, layer)]


def _rows_of(target: Target, layer: Layer) -> list[Float[Tensor, "row weight"]]:
    """Return the weights of a layer, one row a unit; a matrix in either orientation, since ONNX may transpose it."""
    if not _has_rows(layer):
        return []
    found = []
    for name in layer.parameters:
        value = target.parameters[name].detach()
        if value.ndim < 2 or not bool(torch.isfinite(value).all()):
            continue
        units = layer.output_shape[-1] if value.ndim == 2 and layer.output_shape else 0
        matrix = value.T if units == value.shape[1] != value.shape[0] else value.flatten(1)
        matrices = (matrix, matrix.T) if value.ndim == 2 and units == value.shape[0] == value.shape[1] else (matrix,)
        found += [m for m in matrices if m.shape[1] >= _LEAST_WEIGHTS and len(m) >= MOST_COPIES]
    return found


def _has_rows(layer: Layer) -> bool:
    return layer.kind.startswith("conv") or layer.kind in ("linear", "recurrent", "other")


def _is_vector(value: Tensor) -> bool:
    return value.numel() > 1 and value.numel() == max(value.shape)


def _copies(rows: Float[Tensor, "row weight"]) -> Tensor:
    """Tell of every row whether it equals another up to a positive factor; rows of zeros count for nothing.

    Equal rows stand side by side when sorted along a random direction, so neighbours are all that need comparing.
    """
    lengths = rows.norm(dim=1)
    live = (lengths > 0.0).nonzero().flatten()
    copied = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    if len(live) < 2:
        return copied
    unit = rows[live] / lengths[live, None]
    direction = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0)).to(unit)
    order = (unit @ direction).argsort()
    near = _SAME * math.sqrt(2.0)
    same = (unit[order[1:]] - unit[order[:-1]]).norm(dim=1) <= near
    found = live[order]
    copied[found[1:]] |= same
    copied[found[:-1]] |= same
    return copied
