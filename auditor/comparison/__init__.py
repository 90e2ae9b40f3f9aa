"""A comparison: several models under the same probes, attacks, budget and seeds, ordered by what leaks."""

from auditor.comparison.run import Compared, compare

__all__ = ["Compared", "compare"]
