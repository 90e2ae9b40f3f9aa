"""`make shapes` checks every annotated shape of the numerical stages while their tests run; it takes minutes."""

import os

from jaxtyping import install_import_hook

if os.environ.get("FL_AUDIT_CHECK_SHAPES"):
    stages = ("probe", "federated", "attack", "enhance", "exposure", "score")
    install_import_hook([f"auditor.{stage}" for stage in stages], "beartype.beartype")
