"""What an interrupted audit or study has finished, kept by its content, so that the same command goes on from there."""

from auditor.journal.digest import digest_of, parameters_digest, rounded
from auditor.journal.folder import Journal, stored
from auditor.journal.keeping import Crashed, Kept, alone, clear, journaling, kept, key_of

__all__ = [
    "Crashed", "Journal", "Kept", "alone", "clear", "digest_of", "journaling", "kept", "key_of", "parameters_digest",
    "rounded", "stored",
]  # fmt: skip
