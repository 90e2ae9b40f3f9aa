"""The schema is printed for every document, and nothing of it is loaded for a help text."""

import subprocess
import sys

import pytest

from auditor.errors import UsageError
from auditor.results.schema import DOCUMENTS, json_schema


def test_every_document_has_a_schema_that_names_its_keys():
    assert list(DOCUMENTS) == ["audit", "attack", "study", "inspection", "captured", "replay", "defend", "comparison"]
    for name in DOCUMENTS:
        schema = json_schema(name)
        root = schema["$defs"][schema["$ref"].rpartition("/")[2]]
        assert root["type"] == "object"
        assert set(root["required"]) <= set(root["properties"])
    assert json_schema("audit")["$defs"]["Interval"]["required"] == [
        "hits",
        "trials",
        "low",
        "high",
        "chance",
        "method",
    ]


def test_an_unknown_document_is_refused_in_one_line():
    with pytest.raises(UsageError, match="use audit, attack, study, inspection, captured, replay"):
        json_schema("report\n")


def test_help_loads_no_schema():
    code = (
        "import sys; from typer.testing import CliRunner; from auditor.cli.main import app; "
        "assert CliRunner().invoke(app, ['scan', '--help']).exit_code == 0; "
        "print({'msgspec', 'torch', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
