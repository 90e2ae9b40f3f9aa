"""The version of fl-audit, which every document bears."""

__version__ = "0.1.0"
