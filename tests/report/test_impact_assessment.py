"""The annex of a data protection impact assessment says what page one and the findings say, in both languages."""

import json
import re

import pytest
from rendered import page_contradictions

from auditor.report.front.impact_assessment import impact_assessment
from auditor.report.front.page_one import page_one
from auditor.report.page import render
from auditor.report.plain import plain

from .messages import ROOT
from .sample import VARIANTS, sample_results

EMPTY = dict.fromkeys(("organisation", "system", "purpose", "owner", "reviewer", "recipient", "next_review"), "")


def with_annex(results, language="en", **given):
    context = {**EMPTY, "language": language, "annexes": ["dpia"], **given}
    return plain({**results, "context": context})


def annex(page: str) -> str:
    found = re.search(r'<section id="dpia".*?</section>', page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", found[0]).split()) if found else ""


def test_the_annex_is_there_only_where_it_was_asked_for():
    results = sample_results(findings=1, frames=2)
    assert not annex(render(plain(results), printed=False))
    page = render(with_annex(results), printed=False)
    for title in ("Artefact and recipient", "Protection as configured", "Claim against measurement"):
        assert title in annex(page)
    assert "no legal advice" in annex(page)
    assert page_contradictions(page) == ()


@pytest.mark.parametrize("variant", ["fail", "pass", "inconclusive", "hostile", "empty"])
def test_every_variant_has_an_annex_in_both_languages(variant):
    for language, words in (("en", "Residual risk"), ("de", "Restrisiko")):
        page = render(with_annex(VARIANTS[variant](), language), printed=True)
        assert words in annex(page)
        assert "<script" not in page


def test_claims_follow_the_measurement_and_stay_open_where_the_audit_cannot_tell():
    def words(verdict):
        results = with_annex(sample_results(verdict, frames=2))
        return {c.claim: c.met for c in impact_assessment(results, page_one(results)).claims}

    person = "No person is recognisable in what an update gives away."
    assert words("FAIL")[person] == "not met"
    assert words("FAIL")["The clip cannot be rebuilt from an update."] == "not met"
    assert words("PASS")[person] == "met"
    assert words("INCONCLUSIVE")[person] == "open"


def test_what_was_configured_and_who_owns_it_is_told():
    results = with_annex(
        sample_results(findings=1, frames=2), owner="R. Owner", recipient="Cloud Ltd", next_review="2027-05-01"
    )
    results["protocol"]["defences"] = [
        {"name": "clip:1", "told": "the whole update is scaled down", "acts": "client", "unknown_to": []}
    ]
    text = annex(render(results, printed=False))
    for said in ("clip:1", "R. Owner", "Cloud Ltd", "2027-05-01", "not claimed", "Null control"):
        assert said in text
    unprotected = annex(render(with_annex(sample_results(findings=1, frames=2)), printed=False))
    assert "none was configured" in unprotected


def test_failed_controls_are_listed():
    text = annex(render(with_annex(sample_results("INCONCLUSIVE")), printed=False))
    assert "Control failed: closed form on a known linear layer" in text


def test_every_framework_has_a_date_and_a_source():
    found = json.loads((ROOT / "report_templates" / "frameworks.json").read_text("utf-8"))
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", found["dated"])
    for entry in found["entries"]:
        assert set(entry) == {"framework", "place", "title", "why", "strength", "date", "source"}
        assert re.search(r"\d{4}", entry["date"]), entry["framework"]
        assert len(entry["source"]) > 5
    names = " ".join(entry["framework"] for entry in found["entries"])
    for name in ("CNIL", "PANAME", "SATRE", "CoSAI", "AISVS", "EDPB Guidelines 01/2025", "EDPB stakeholder report"):
        assert name in names
