"""Parameters that nothing reads on a clip: a branch that is not taken, a loop without rounds, a part for training."""

import copy
from collections.abc import Collection, Iterable, Set

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.model.forward_pass import Reading, observe
from auditor.model.onnx.interpreter import OnnxModule
from auditor.model.pytorch.inner import Archived
from auditor.model.two_part import EXTRACTOR, TwoPart
from auditor.model.video import VideoModel
from auditor.records import record
from auditor.text import printable

SHOWN = 3


@record
class UnreadParameters:
    """What of a network's parameters nothing reads.

    Attributes
    ----------
    doubtful
        Numbers in those that clients' training may read all the same.
    note
        A sentence about them; empty where all are read.
    """

    doubtful: int = 0
    note: str = ""


def unread_parameters(
    model: VideoModel,
    clip: Float[Tensor, "1 frame channel height width"],
    readings: Iterable[Reading],
    frozen: Collection[str],
) -> UnreadParameters:
    """Return what is to be said of parameters that no operation of a pass over the clip reads.

    Those that are `frozen`, as a whole extractor is, are passed over. A file or an archive does not tell when they are
    read: clients may train where they are. A module is asked, by a pass of a copy in training mode.
    """
    read = {name for reading in readings for name in reading.parameters}
    network = model.network
    passed = read.union(frozen)
    if isinstance(network, TwoPart):
        passed |= {f"{EXTRACTOR}.{name}" for name, _ in network.extractor.named_parameters()}
    values = {name: value for name, value in model.named_parameters() if name not in passed}
    if not values:
        return UnreadParameters()
    named = _named(values)
    count = f"{len(values)} parameter{'' if len(values) == 1 else 's'}"
    verb = "is" if len(values) == 1 else "are"
    if isinstance(network.head if isinstance(network, TwoPart) else network, (OnnxModule, Archived)):
        return UnreadParameters(
            doubtful=_numbers(values.values()),
            note=f"{count} {verb} read by nothing that runs on a clip (a branch that is not taken, a loop without "
            f"rounds): {named}. If clients' training takes that way, an update tells more than is audited.",
        )
    trained = {name: values[name] for name in sorted(values.keys() & _read_in_training(model, clip))}
    if not trained:
        return UnreadParameters(note=f"{count} {verb} read by nothing that runs, in training neither: {named}.")
    return UnreadParameters(
        doubtful=_numbers(trained.values()),
        note=f"{len(trained)} of {count} that nothing reads on a clip {verb} read in training mode: {_named(trained)}. "
        "An update tells more than is audited if clients' loss depends on what they lead to; leave them out otherwise.",
    )


def _read_in_training(model: VideoModel, clip: Tensor) -> Set[str]:
    """Return the parameters that a pass of two clips in training mode reads; all where it does not run."""
    other = model.over(copy.deepcopy(model.network))
    other.network.train()
    with torch.random.fork_rng(devices=[]):
        try:
            seen = observe(other, torch.cat([clip, 1 - clip]), other.outputs, slopes=False)
        except Exception:  # noqa: BLE001 - a user's forward may raise anything, and then nothing is known
            return set(dict(model.named_parameters()))
    return {name for reading in seen.readings for name in reading.parameters}


def _numbers(values: Iterable[Tensor]) -> int:
    return sum(value.numel() for value in values)


def _named(values: Iterable[str]) -> str:
    names = list(values)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{printable(name, 60)}'" for name in names[:SHOWN]) + more
