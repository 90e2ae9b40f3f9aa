"""Names in a study file are text: no spreadsheet, terminal or file name takes them for more."""

import csv
import io

import pytest

from auditor.report.study import _csv, _free


@pytest.mark.parametrize("name", ["=1+1", "+1", "-cmd", "@sum", "\x1b=1", "\t=1"])
def test_a_spreadsheet_computes_no_name(name):
    (_, (cell, number, nothing)) = csv.reader(io.StringIO(_csv(["a", "b", "c"], iter([[name, -1.5, None]]))))
    assert cell.startswith("'")
    assert cell.isprintable()
    assert (number, nothing) == ("-1.5", "")


def test_infinite_decibels_stay_numbers():
    assert _csv(["a"], iter([["-inf"]])).splitlines()[1] == "-inf"


def test_claims_whose_names_fit_one_file_name_get_two():
    assert _free("claim-a-b", {}) == "claim-a-b"
    assert _free("claim-a-b", {"claim-a-b": "", "claim-a-b-2": ""}) == "claim-a-b-3"
