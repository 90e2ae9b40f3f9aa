"""Options that stand in a file or in the environment: which are found, and which of several counts."""
