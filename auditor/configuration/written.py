"""A configuration as text: every option with its origin, and a commented file to begin with."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.configuration.merge import DEFAULT, Given, configurable
from auditor.declaring import REQUIRED, Option
from auditor.terms import PANELS
from auditor.values import Choice, Count, Listed, Number, Numbers, Pairs, Shape, Switch, Whole

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEAD = """# fl-audit: what `fl-audit scan` does without options. Uncomment what you change.
# A flag of the command line comes before a variable FL_AUDIT_<NAME>, and that before this file (docs/configuration.md).
# `fl-audit config` prints every value with its origin. Paths are relative to this file.
"""
# What somebody may write, where there is no default to show.
_EXAMPLES: Mapping[str, Any] = {
    "weights": "weights.safetensors",
    "input_shape": [3, 8, 32, 32],
    "layout": "NCTHW",
    "classes": 10,
    "mean": [0.45, 0.45, 0.45],
    "std": [0.225, 0.225, 0.225],
    "range": [0.0, 255.0],
    "temporal_pool": "mean",
    "model_output": "logits",
    "arg": {"depth": 4},
    "extractor": "backbone.onnx",
    "head": "head.onnx",
    "extractor_weights": "backbone.safetensors",
    "head_weights": "head.safetensors",
    "join": "none",
    "trainable": ["head*"],
    "max_time": "10m",
    "baseline": "audits/baseline.json",
    "replay": "replay.json",
    "waivers": "fl-audit-waivers.toml",
    "level": {"label-inference": "off"},
    "out": "fl-audit-report",
    "output": ["audit.json", "audit.github.sarif"],
}


def origins(given: Mapping[str, Given]) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and origin of every option: what was given, else its default."""
    for name, option in configurable().items():
        held = given.get(name)
        if held is not None:
            yield name, toml(held.value), held.origin
        else:
            yield name, _default(option), DEFAULT


def commented(model: str) -> str:
    """Return a file in which every option is explained and left out, but for the model."""
    parts = [_HEAD]
    options = configurable()
    for panel in PANELS:
        inside = [option for option in options.values() if option.panel == panel]
        if inside:
            parts.append(f"\n# {panel}\n")
            parts += [_entry(option, model) for option in inside]
    return "".join(parts)


def toml(value: Any) -> str:
    """Return a value as TOML writes it.

    >>> toml(["a", 1, True]), toml({"a-b": 1.5, "c d": "x"})
    ('["a", 1, true]', '{ a-b = 1.5, "c d" = "x" }')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(k))} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return repr(value) if isinstance(value, int | float) else json.dumps(str(value)).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _entry(option: Option, model: str) -> str:
    told = f"{option.help} [{option.kind.told}]" if option.kind.told else option.help
    without = f" Without it: {option.without}." if option.without else ""
    chosen = option.name == "model" and bool(model)
    return f"# {told}{without}\n{'' if chosen else '# '}{option.name} = {toml(model) if chosen else _shown(option)}\n"


def _shown(option: Option) -> str:
    """A value of the right kind: the default where it can be written, else an example."""
    if option.name in _EXAMPLES:
        return toml(_EXAMPLES[option.name])
    if option.default in (None, (), "", REQUIRED):
        return toml(_of_kind(option.kind))
    return toml(_word(option))


def _word(option: Option) -> Any:
    """The default as people write it."""
    if isinstance(option.kind, Choice):
        return next(word for word, meant in option.kind.meaning.items() if meant == option.default)
    return option.default


def _of_kind(kind: Any) -> Any:
    if isinstance(kind, Listed):
        return []
    if isinstance(kind, Pairs):
        return {}
    if isinstance(kind, Switch):
        return False
    if isinstance(kind, Count | Whole | Number | Numbers | Shape):
        return 1
    return next(iter(kind.meaning)) if isinstance(kind, Choice) else "..."


def _default(option: Option) -> str:
    if option.default_words:
        return f"({option.default_words})"
    if option.default in (None, (), "", REQUIRED):
        return "(none)"
    return toml(_word(option))
