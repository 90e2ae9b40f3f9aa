"""fl-audit: a privacy audit for federated learning on video."""

__version__ = "0.1.0"
