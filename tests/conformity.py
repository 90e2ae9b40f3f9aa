"""Whether a document that was really produced fits the JSON Schema that is shipped, and mutated ones do not."""

import copy
from typing import Any

import jsonschema

from auditor.results.schema import json_schema


def conforms(document: dict[str, Any], name: str) -> None:
    """Fail unless the schema accepts a document and refuses it with any one required key gone or of another type."""
    validator = jsonschema.Draft202012Validator(json_schema(name))
    errors = sorted(validator.iter_errors(document), key=lambda e: len(e.path))
    assert not errors, f"{list(errors[0].path)}: {errors[0].message[:200]}"
    definition = validator.schema["$defs"][validator.schema["$ref"].rpartition("/")[2]]
    for key in definition["required"]:
        for wrong in (_without(document, key), {**document, key: [[[]]]}):
            assert not validator.is_valid(wrong), key
    mutated = copy.deepcopy(document)
    _first_number(mutated)
    assert not validator.is_valid(mutated)


def _without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in document.items() if k != key}


def _first_number(document: dict[str, Any]) -> None:
    """Put a text in the place of a number far down."""
    if "candidates" in document:
        document["tool"]["budget"] = "many"
        return
    block: Any = document.get("model") or document.get("study") or document
    block = block.get("input", block)
    block["frames" if "frames" in block else "steps"] = "many"
