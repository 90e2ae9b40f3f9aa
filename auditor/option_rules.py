"""Options from what was given: every value is read by its kind, and then all are seen together."""

from collections.abc import Mapping
from typing import Any, TypeVar

from auditor.declaring import Option, options_of
from auditor.errors import UsageError
from auditor.options import LOCAL, ClientOptions, ModelOptions
from auditor.text import did_you_mean, printable

_Declared = TypeVar("_Declared")


def options_from(declared: type[_Declared], given: Mapping[str, Any], *, study: bool = False, **more: Any) -> _Declared:
    """Return options from what was given by name, as text, as TOML values or in Python; None is not given.

    Parameters
    ----------
    study
        Take only what a study's [[model]] may say.
    more
        Fields that are no options.

    Raises
    ------
    UsageError
        A name is unknown, a value is wrong, or two do not go together: one line, the same from every source.
    """
    known = {o.name: o for o in options_of(declared) if o.study or not study}
    for name in given:
        if name not in known:
            raise UsageError(f"'{printable(name)}' is unknown{_meant(name, known)}", "see docs/options.md")
    values = {name: known[name].read(value) for name, value in given.items() if value is not None}
    if issubclass(declared, ModelOptions):
        _one_model(values)
    if issubclass(declared, ClientOptions):
        _local_training(values)
        _buffers(values)
    return declared(**values, **more)


def _meant(name: str, known: Mapping[str, Option]) -> str:
    renamed = next((f" (did you mean {o.name}?)" for o in known.values() if name in o.former), None)
    return renamed or did_you_mean(name, known)


def _one_model(given: Mapping[str, Any]) -> None:
    """One model or two parts: not both, not half, and no options of the other kind."""
    two = "extractor" in given or "head" in given
    if "model" in given and two:
        raise UsageError(
            "MODEL and --extractor or --head were given", "give MODEL alone, or --extractor and --head without MODEL"
        )
    if two and not ("extractor" in given and "head" in given):
        one, other = ("--extractor", "--head") if "extractor" in given else ("--head", "--extractor")
        raise UsageError(f"{one} was given without {other}", f"add {other}, or give the whole model as MODEL")
    if two and "weights" in given:
        raise UsageError("--weights does not say which part it is for", "give --extractor-weights or --head-weights")
    if two:
        return
    if "model" not in given:
        raise UsageError("no model was given", "give MODEL, or --extractor and --head")
    stray = _first_of(given, ("extractor_weights", "head_weights", "join"))
    if stray:
        raise UsageError(f"{stray} applies to two-part models only", "give --extractor and --head instead of MODEL")


def _local_training(given: Mapping[str, Any]) -> None:
    """FedSGD has no local training that could be described."""
    stray = _first_of(given, LOCAL)
    if stray and given.get("algorithm") != "FedAvg":
        raise UsageError(f"{stray} describes local training, which fedsgd has not", "add --algorithm fedavg")


def _buffers(given: Mapping[str, Any]) -> None:
    """Running statistics change in train mode only."""
    if given.get("send_buffers") and given.get("bn", "eval") == "eval":
        raise UsageError(
            "--send-buffers has nothing to send with --bn eval: running statistics change in train mode only",
            "add --bn train, or leave --send-buffers out",
        )


def _first_of(given: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    flags = {o.name: o.flag for o in options_of(ClientOptions)}
    return next((flags[name] for name in names if name in given), None)
