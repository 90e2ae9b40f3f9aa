"""Verify what was written: digests, whatever follows from other values, and pages against a fresh rendering."""
