"""What the study's report shows: the same frame of one clip under every condition."""

from collections.abc import Sequence

import torch

from auditor.errors import AuditError
from auditor.journal.folder import Journal
from auditor.pipeline.documents.pictures import png
from auditor.results.study import StudyPictures
from auditor.study.cells import Cell, StudyUnit, Work
from auditor.study.plan import Study


def pictures_block(study: Study, work: Work, journal: Journal) -> tuple[StudyPictures, ...]:
    """Return, for every cell, the middle frame of the first clip and seed: truth, reconstruction, enhanced, null."""
    clip, seed = study.clips[0], study.seeds[0]
    shown = []
    for cell in work.cells:
        own = _unit(work.units, cell, clip, seed, "own")
        null = _unit(work.units, cell, clip, seed, "null")
        frames = {
            "original": _frame(journal, own, "truth"),
            "copy": _frame(journal, own, "copy"),
            "reconstruction": _frame(journal, own, "clip"),
            "enhanced": _frame(journal, own, "enhanced.0"),
            "null": _frame(journal, null, "clip"),
            "enhanced_null": _frame(journal, null, "enhanced.0"),
        }
        if frames["reconstruction"] is not None:
            shown.append(
                StudyPictures(
                    model=cell.model.name,
                    weights=cell.weights,
                    references=cell.references,
                    clip=clip.rpartition("/")[2],
                    **frames,
                )
            )
    return tuple(shown)


def _unit(units: Sequence[StudyUnit], cell: Cell, clip: str, seed: int, role: str) -> StudyUnit | None:
    return next((u for u in units if u.cell is cell and u.clip == clip and u.seed == seed and u.role == role), None)


def _frame(journal: Journal, unit: StudyUnit | None, name: str) -> str | None:
    if unit is None or journal.read(unit.key) is None:
        return None
    result = journal.read(unit.key)
    if result is None or result["score"] is None:
        return None
    try:
        tensors = journal.tensors(unit.key)
    except OSError as error:
        raise AuditError(str(error), "run the same command again: this unit is made anew") from error
    if name not in tensors:
        return None
    clip: torch.Tensor = tensors[name]
    return png(clip[middle(clip)].float() / 255.0)


def middle(clip: torch.Tensor) -> int:
    """Return the number of the frame that stands for a clip; a single frame stands for itself."""
    return len(clip) // 2
