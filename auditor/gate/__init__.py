"""Judge an audit: what changed since a baseline, what somebody answers for, and whether a pipeline may go on.

Everything here reads results.json alone: neither the model nor torch is needed.
"""
