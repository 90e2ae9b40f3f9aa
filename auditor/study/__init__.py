"""A study: a grid of models, weights, references and enhancements over clips and seeds, and claims judged by it."""

from auditor.study.plan import read_study
from auditor.study.run import lay_out, study

__all__ = ["lay_out", "read_study", "study"]
