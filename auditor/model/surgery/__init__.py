"""Changes of a network's architecture that are exact: the result is the network that somebody would write by hand."""

from auditor.model.surgery.changes import CHANGES, REFUSED, Changed, change_network, check_change

__all__ = ["CHANGES", "REFUSED", "Changed", "change_network", "check_change"]
