"""Putting weights into a network: all of them or none, under whatever prefix a training program saved them."""

import difflib
import re
from collections.abc import Collection, Mapping

from torch import Tensor, nn

from auditor.errors import UsageError
from auditor.model.pytorch.weights import Weights
from auditor.text import printable

SHOWN = 3
# torch.compile, checkpointing, sharded and data parallel training put these in front of any part of a name.
INSERTED = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")
PARALLEL = ("module.",)
# Weight averaging keeps a second copy under a prefix of its own.
AVERAGED = ("ema_model.", "model_ema.", "ema.", "averaged_model.")
COUNTERS = ("n_averaged", "num_updates")
# Losses, metrics and counts of operations, whose tensors stand in the state too; and how layers call their weights.
BESIDE = re.compile(
    r"(^|[._])(total_ops|total_params|criterion|losses|loss\w*|metrics?|ema|acc|accuracy|auroc|f1\w*|confmat|precision|recall)([._]|$)"
)
LAYER = re.compile(r"(^|[._])weight\w*$")
# The two factors of an adapter of low rank, as peft and loralib call them.
ADAPTERS = re.compile(r"(^|[._])lora_[AB]([._]|$)")
CLASSES = "give --classes {count}, the number in the weights"


def fill(network: nn.Module, weights: Weights, classes_remedy: str = CLASSES) -> tuple[str, ...]:
    """Load weights into a network, all of them or none, and return what was done to their names.

    `classes_remedy` is what to do where only the number of classes differs, with a place for `count`.

    Raises
    ------
    UsageError
        Names are missing or unexpected, or shapes differ.
    """
    own = network.state_dict()
    if weights.in_order:
        given, notes = in_order(network, weights)
    else:
        given, notes = renamed(dict(weights.state), own.keys())
        given = with_tied(network, given)
        given, told_of = without_extras(own, given, weights.state)
        given, without = with_own_buffers(network, own, given)
        notes = (*notes, *told_of, *without)
    missing, unexpected, shapes = differences(own, given)
    if missing or unexpected or shapes:
        cause, remedy = told(own, given, missing, unexpected, shapes, classes_remedy)
        remedy = (not weights.in_order and one_of_several(own, weights.state)) or remedy
        raise UsageError(f"{weights.name} does not fit the model: {cause}", remedy)
    network.load_state_dict(given, strict=False)
    return (*weights.notes, *notes)


def in_order(network: nn.Module, weights: Weights) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return tensors without names under the names of the network's state, in its order.

    They may stand for all of the state, for all but the counters of batches, or for the parameters alone.

    Raises
    ------
    UsageError
        Their number or their shapes fit none of these.
    """
    own = network.state_dict()
    parameters = [name for name, _ in network.named_parameters()]
    orders = (list(own), [name for name in own if not name.endswith("num_batches_tracked")], parameters)
    values = list(weights.state.values())
    for names in orders:
        if [own[name].shape for name in names] == [value.shape for value in values]:
            rest = {name: value for name, value in own.items() if name not in names}
            notes = ["The weights have no names and were taken in the order of the network's state."]
            if names == parameters and len(rest) > 0:
                notes.append(_no_buffers(len(rest)))
            return {**rest, **dict(zip(names, values, strict=True))}, tuple(notes)
    wrong = next(
        (
            f"number {i} is {tuple(value.shape)} where '{printable(name)}' is {tuple(own[name].shape)}"
            for i, (name, value) in enumerate(zip(own, values, strict=False))
            if own[name].shape != value.shape
        ),
        f"there are {len(values)}, the model has {len(own)}",
    )
    raise UsageError(
        f"{weights.name} holds tensors without names that do not fit the model's in order: {wrong}",
        "give the weights of this architecture, or a state dict, which has names",
    )


def without_extras(
    own: Mapping[str, Tensor], given: dict[str, Tensor], before: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Leave out what training programs save beside a network that is all there: the weights of losses, metrics.

    They are told by their names, or by standing outside of the prefix that all of the network has. A matrix of weights
    outside it may be a layer: then nothing is left out.
    """
    missing, unexpected, shapes = differences(own, given)
    if missing or shapes or not unexpected:
        return given, ()
    prefixed = any(key not in before for key in own.keys() & given.keys())
    extra = [
        key
        for key in unexpected
        if BESIDE.search(key) or (prefixed and key in before and not (LAYER.search(key) and given[key].dim() > 1))
    ]
    if len(extra) < len(unexpected):
        return given, ()
    kept = {key: value for key, value in given.items() if key not in extra}
    return kept, (f"Left out of the weights, as the network has no such part: {_some(extra)}.",)


def with_tied(network: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under every name of a parameter that has several; some formats keep the first alone."""
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    held = {id_: next((name for name in tied if name in given), "") for id_, tied in names.items()}
    return {**{name: given[held[id_]] for id_, tied in names.items() if held[id_] for name in tied}, **given}


def with_own_buffers(
    network: nn.Module, own: Mapping[str, Tensor], given: dict[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the weights with the network's own buffers where they hold parameters alone, as some servers send them."""
    buffers = own.keys() - dict(network.named_parameters(remove_duplicate=False)).keys()
    missing, unexpected, shapes = differences(own, given)
    if not missing or unexpected or shapes or set(missing) - buffers or buffers & given.keys():
        return given, ()
    return {**given, **{name: own[name] for name in buffers}}, (_no_buffers(len(buffers)),)


def _no_buffers(count: int) -> str:
    return f"They hold no buffers: {count} of the network keep what the factory gave them."


def renamed(given: dict[str, Tensor], own: Collection[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the weights without a prefix that a training program put before the names of the network.

    The names are left as they are unless a renaming brings more of them to where the network has them.

    >>> renamed({"model._orig_mod.head.weight": Tensor()}, ["head.weight"])[0].keys()
    dict_keys(['head.weight'])
    """
    notes: list[str] = []
    best = given
    for inserted in ((), INSERTED, PARALLEL, INSERTED + PARALLEL):
        plain = {_without(key, inserted): value for key, value in given.items()}
        if len(plain) < len(given):
            continue
        for prefix in ("", *_prefixes(plain, own)):
            candidate = _under(plain, prefix, own)
            if _fitting(candidate, own) > _fitting(best, own):
                best = candidate
    dropped = len(given) - len(best)
    if dropped:
        notes.append(f"{dropped} tensors of an averaged copy of the weights, or that count averages, were left out.")
    return best, tuple(notes)


def _without(key: str, inserted: tuple[str, ...]) -> str:
    for part in inserted:
        if key.startswith(part):
            key = key.removeprefix(part)
        key = key.replace("." + part, ".")
    return key


def _prefixes(given: Mapping[str, Tensor], own: Collection[str]) -> list[str]:
    """Return what stands before a name of the network in the weights, what is not an average first."""
    lookup = set(own)
    found = set()
    for key in given:
        parts = key.split(".")
        for i in range(1, len(parts)):
            if ".".join(parts[i:]) in lookup:
                found.add(".".join(parts[:i]) + ".")
    return sorted(found, key=lambda prefix: (prefix.startswith(AVERAGED), len(prefix), prefix))


def _under(given: Mapping[str, Tensor], prefix: str, own: Collection[str]) -> dict[str, Tensor]:
    """Return the weights with a prefix taken off; what is left over stays, unless it belongs to an average."""
    taken = {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}
    others = {key: value for key, value in given.items() if not key.startswith(prefix)}
    kept = {
        key: value
        for key, value in others.items()
        if key not in COUNTERS and not key.startswith(AVERAGED) and key not in taken
    }
    if not prefix:
        own_names = set(own)
        taken = {
            key: value
            for key, value in taken.items()
            if key in own_names or not (key in COUNTERS or key.startswith(AVERAGED))
        }
    return {**kept, **taken}


def _fitting(given: Mapping[str, Tensor], own: Collection[str]) -> tuple[int, int]:
    names = set(own)
    fitting = sum(key in names for key in given)
    return fitting, -len(given)


def differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """Return the names that are missing, that are unexpected, and whose shapes differ.

    Counters of batches may be missing: older checkpoints have none, and no gradient depends on them.
    """
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - given.keys() - counters)
    unexpected = sorted(given.keys() - own.keys())
    shapes = sorted(key for key in own.keys() & given.keys() if own[key].shape != given[key].shape)
    return missing, unexpected, shapes


def one_of_several(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return how to save one of several networks that are all there under prefixes; empty where there is none."""
    whole = [prefix for prefix in _prefixes(state, own) if all(prefix + name in state for name in own)]
    if not whole:
        return ""
    prefix = printable(whole[0], 60)
    others = f" (or of {', '.join(printable(other, 60) for other in whole[1:SHOWN])})" if whole[1:] else ""
    return (
        f"save the tensors of '{prefix}'{others} alone, where state is what holds the names above: "
        f"torch.save({{k.removeprefix('{prefix}'): v for k, v in state.items() if k.startswith('{prefix}')}}, "
        "'weights.pt')"
    )


def told(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    shapes: list[str],
    classes_remedy: str = CLASSES,
) -> tuple[str, str]:
    """Return what differs, in words, and what to do about it."""
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing ({_some(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected ({_some(unexpected)})")
    if shapes:
        pairs = [f"{key} is {tuple(given[key].shape)}, the model has {tuple(own[key].shape)}" for key in shapes]
        problems.append(f"{len(shapes)} of another shape ({_some(pairs)})")
    return "; ".join(problems), _remedy(own, given, missing, unexpected, shapes, classes_remedy)


def _remedy(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    shapes: list[str],
    classes_remedy: str,
) -> str:
    if shapes and not missing and not unexpected:
        count = _classes(own, given, shapes)
        if count is not None:
            return classes_remedy.format(count=count)
    if any(ADAPTERS.search(name) for name in unexpected):
        return (
            "these are low-rank adapters on other weights: return the network with its adapters from the factory "
            "(peft.PeftModel.from_pretrained(network, FOLDER, is_trainable=True), or peft.get_peft_model), or merge "
            "them into the weights first (merge_and_unload())"
        )
    alike = [
        (name, near[0])
        for name in missing
        if (near := difflib.get_close_matches(name, unexpected, 1, 0.5)) and own[name].shape == given[near[0]].shape
    ]
    if alike:
        pairs = ", ".join(f"{printable(there)} as {printable(name)}" for name, there in alike[:SHOWN])
        return f"give the weights of this architecture, or rename in them e.g. {pairs}"
    return "give the weights of this architecture"


def _classes(own: Mapping[str, Tensor], given: Mapping[str, Tensor], shapes: list[str]) -> int | None:
    """Return the number of classes in the weights, if all that differs is the first extent of one layer.

    Only of the last layer nothing else depends on that extent.
    """
    layers = {key.rpartition(".")[0] for key in shapes}
    counts = {given[key].shape[0] if given[key].dim() else 0 for key in shapes}
    rest_same = all(own[key].shape[1:] == given[key].shape[1:] for key in shapes)
    if len(layers) == 1 and len(counts) == 1 and rest_same:
        return counts.pop()
    return None


def _some(names: list[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown}, …"
