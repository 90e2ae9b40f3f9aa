"""A comparison: several models under the same probes, attacks, budget and seeds, ordered by what leaks."""
