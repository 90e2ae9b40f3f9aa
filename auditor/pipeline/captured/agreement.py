"""What a replay says of an audit: whether it tests what a client really sends, else what differs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.options import LOCAL
from auditor.pipeline.context import Context
from auditor.results.encode import document, encode
from auditor.results.refusal import check
from auditor.results.updates.replay import REPLAY, ReplayAgreement, ReplayDocument
from auditor.text import printable

_REMEDY = "give what `fl-audit replay ... --json` printed"
# A replay has one clip of one client, bare: an audit may have several, and defences.
_HOW_IT_TRAINS = (
    "algorithm", "loss", "bn", "dropout", "local_epochs", "local_batch", "learning_rate", "momentum", "trainable",
)  # fmt: skip
_LARGEST = 64 * 2**20


def read_replay(path: Path | None) -> dict[str, Any] | None:
    """Return what a replay printed, checked; None without a path.

    Raises
    ------
    UsageError
        The file is missing, too large, or no replay.
    """
    if path is None:
        return None
    shown = f"--replay {printable(str(path), 200)}"
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{shown} is larger than any replay", _REMEDY)
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{shown} cannot be read ({error.strerror or type(error).__name__})", _REMEDY) from None
    except (ValueError, RecursionError):
        raise UsageError(f"{shown} is not JSON", _REMEDY) from None
    if not isinstance(found, dict) or found.get("schema") != REPLAY:
        raise UsageError(f"{shown} is no replay", _REMEDY)
    check(found, ReplayDocument, shown, _REMEDY)
    return found


def agreement(found: Mapping[str, Any], path: Path, context: Context) -> ReplayAgreement:
    """Return what a replay says of an audit with this model and this client.

    Raises
    ------
    UsageError
        It is of another model, or of a client that trains otherwise.
    """
    name = printable(path.name, 80)
    target = context.target
    if found["model"]["sha256"] != target.sha256 or found["model"]["input"] != document(target.input):
        raise UsageError(
            f"--replay {name} is of another model, {printable(found['model']['name'], 60)}", "replay with this model"
        )
    idle = LOCAL if context.protocol.algorithm == "FedSGD" else ()
    for key in _HOW_IT_TRAINS:
        theirs, ours = found["protocol"][key], encode(getattr(context.protocol, key), Any)
        if key not in idle and theirs != ours:
            raise UsageError(
                f"--replay {name} has {key} {printable(str(theirs), 60)}, and this audit {printable(str(ours), 60)}",
                "replay with the options of this audit",
            )
    first = found["explanations"][0] if found["explanations"] else None
    return ReplayAgreement(
        file=path.name,
        clip=found["clip"]["name"],
        agrees=found["agrees"],
        difference=_number(found["difference"]),
        tolerance=found["tolerance"],
        explained=found["explained"],
        cause="" if found["agrees"] or first is None else first["cause"],
        sentence=_sentence(found, first),
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _sentence(found: Mapping[str, Any], first: Mapping[str, Any] | None) -> str:
    off = f"{_number(found['difference']):.1e} of its norm"
    if found["agrees"]:
        return f"An update that a client really sent agrees with the simulated one to {off}: this is what is audited."
    if first is None or not found["explained"]:
        why = "nothing that was tried explains it"
    else:
        why = f"best explained by {first['cause']}: {first['text']}"
    return f"An update that a client really sent differs from the simulated one by {off}; {why}."
