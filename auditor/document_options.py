"""Options of the report as a document that is filed: whose it is, in which language, and with which annexes."""

from functools import partial
from typing import Any

from auditor import terms
from auditor.declaring import declaration, option, plain_values
from auditor.terms import DOCUMENT
from auditor.text import printable
from auditor.values import Listed, Text, one_of

_document = partial(option, panel=DOCUMENT)
_LONGEST = 300


@declaration
class DocumentOptions:
    """What the results cannot know, and the form of the report; what is not given stays open on page one."""

    organisation: str = _document("", Text(), "Organisation that answers for the processing; for page one.")
    system: str = _document("", Text(), "System or processing that the model belongs to.")
    purpose: str = _document("", Text(), "What the system is for.")
    owner: str = _document("", Text(), "Who owns the remaining risk.")
    reviewer: str = _document("", Text(), "Who reviews this report.")
    recipient: str = _document("", Text(), "Who receives updates, e.g. the operator of the server.")
    next_review: str = _document("", Text(), "Day or event of the next audit, e.g. 2027-05-01.")
    language: terms.Language | None = _document(
        None, one_of(terms.Language), "Language of HTML and PDF.", default_words="as the results say, else en"
    )
    annex: tuple[terms.Annex, ...] = _document(
        (), Listed(one_of(terms.Annex)), "Annex of the report; dpia: for a data protection impact assessment."
    )

    def added_to(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return results that hold what was given; what was not stays as the results have it."""
        if not any(plain_values(self).values()):
            return results
        held = results.get("context") or {}
        texts = ("organisation", "system", "purpose", "owner", "reviewer", "recipient", "next_review")
        context = {name: printable(getattr(self, name), _LONGEST) or held.get(name, "") for name in texts}
        context["language"] = self.language or held.get("language", "en")
        context["annexes"] = list(dict.fromkeys((*held.get("annexes", ()), *self.annex)))
        return {**results, "context": context}
