"""What a study file says: models, clips, a grid of conditions, and the claims that it is to judge."""

import fnmatch
import hashlib
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.attack import BY_NAME
from auditor.declaring import options_of
from auditor.errors import UsageError
from auditor.option_rules import options_from
from auditor.options import ClientOptions
from auditor.records import record
from auditor.study.enhancers import check_enhancer
from auditor.study.measures import BY_NAME as MEASURES
from auditor.text import did_you_mean, printable
from auditor.values import FilePath

FRESH = "fresh"
EFFORTS = ("fast", "standard", "deep")


@record
class Selector:
    """Which cells of the grid: patterns over names; an empty tuple takes all."""

    models: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    references: tuple[int, ...] = ()

    def takes(self, model: "StudyModel", weights: str, references: int) -> bool:
        """Tell whether a cell is meant."""
        return (
            _matches(model.name, self.models)
            and _matches(model.kind, self.kinds)
            and _matches(weights, self.weights)
            and (not self.references or references in self.references)
        )


@record
class StudyModel:
    """One model of the study; `options` are those of a scan. `kind` is a word that claims and grids group by."""

    name: str
    kind: str
    options: ClientOptions
    weights: tuple[str, ...]
    definition: str


@record
class Grid:
    """A product of conditions: every selected model and weights, with these numbers of reference frames.

    Attributes
    ----------
    enhance
        Super-resolution of every reconstruction, such as `DAT-light x2`.
    null_seeds
        On how many of the seeds the null control runs.
    presets
        Efforts that run this block; all if empty.
    """

    select: Selector
    references: tuple[int, ...]
    enhance: tuple[str, ...]
    null_seeds: int
    presets: tuple[str, ...]


@record
class Chain:
    """The attacks of some cells, strongest first: the first that applies is the one that runs."""

    select: Selector
    attacks: tuple[str, ...]


@record
class Claim:
    """A sentence that the study is to judge: the effect of `of` (less `against`) on a measure, above `margin`."""

    name: str
    text: str
    measure: str
    of: Selector
    against: Selector | None
    margin: float
    note: str


@record
class Effort:
    """What one preset spends on an attack; `seconds` are reference seconds of work."""

    steps: int
    seconds: float


@record
class Study:
    """A whole study file.

    Attributes
    ----------
    folder
        Where the file lies: paths in it are relative to this.
    training
        `file.py:function` that trains the weights other than fresh.
    sha256
        Of the file.
    """

    path: Path
    folder: Path
    sha256: str
    title: str
    source: str
    question: str
    clips: tuple[str, ...]
    seeds: tuple[int, ...]
    models: tuple[StudyModel, ...]
    grids: tuple[Grid, ...]
    chains: tuple[Chain, ...]
    claims: tuple[Claim, ...]
    efforts: Mapping[str, Effort]
    training: str | None


def read_study(path: Path) -> Study:
    """Read and check a study file.

    Raises
    ------
    UsageError
        It is missing, no TOML, or says something that is not known.
    """
    shown = printable(str(path), 200)
    try:
        content = path.read_bytes()
        table = tomllib.loads(content.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {shown}", "give a study file, such as examples/rasul2025.toml") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{shown} is no TOML: {printable(str(error))}", "correct the file") from error
    return _Reader(path).study(table, hashlib.sha256(content).hexdigest())


class _Reader:
    """Turns tables into records, and names the place of whatever is wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.resolve().parent

    def study(self, table: Mapping[str, Any], sha256: str) -> Study:
        self._keys(table, ("study", "preset", "training", "model", "grid", "attacks", "claim"), "the file")
        about = self._table(table, "study")
        self._keys(about, ("title", "source", "question", "clips", "seeds"), "[study]")
        training = self._table(table, "training", optional=True)
        self._keys(training, ("program",), "[training]")
        program = self._optional_text(training, "program", "[training]")
        models = tuple(self._model(m, i) for i, m in enumerate(self._tables(table, "model"), start=1))
        names = [m.name for m in models]
        if len(set(names)) < len(names):
            raise self._wrong("two models have the same name", "give every [[model]] a name of its own")
        if any(w != FRESH for m in models for w in m.weights) and program is None:
            raise self._wrong("weights other than fresh need a training program", "add [training] program")
        study = Study(
            path=self._path,
            folder=self._folder,
            sha256=sha256,
            title=self._text(about, "title", "[study]"),
            source=self._optional_text(about, "source", "[study]") or "",
            question=self._optional_text(about, "question", "[study]") or "",
            clips=tuple(self._clip(c) for c in self._texts(about, "clips", "[study]")),
            seeds=tuple(self._whole_numbers(about, "seeds", "[study]")),
            models=models,
            grids=tuple(self._grid(g, i, models) for i, g in enumerate(self._tables(table, "grid"), start=1)),
            chains=tuple(self._chain(a, i, models) for i, a in enumerate(self._tables(table, "attacks"), start=1)),
            claims=tuple(self._claim(c, i, models) for i, c in enumerate(self._tables(table, "claim", True), start=1)),
            efforts=self._efforts(self._table(table, "preset")),
            training=program if program is None else self._local(program),
        )
        if len(set(study.clips)) < max(2, len(study.clips)):
            raise self._wrong("a study needs two different clips or more", "each is the null of another: list clips")
        names = [Path(c).name for c in study.clips]
        if len(set(names)) < len(names):
            raise self._wrong("two clips have the same file name", "results are told by it: rename one of them")
        if len(set(study.seeds)) < len(study.seeds) or any(s >= _LARGEST_SEED for s in study.seeds):
            raise self._wrong("a seed is named twice, or is too large", "give different seeds below 2^32")
        if not study.seeds:
            raise self._wrong("no seed is given", "set seeds = [0, 1, 2]")
        if len({c.name for c in study.claims}) < len(study.claims):
            raise self._wrong("two claims have the same name", "give every [[claim]] a name of its own")
        return study

    def _model(self, table: Mapping[str, Any], number: int) -> StudyModel:
        where = f"[[model]] {number}"
        own = ("name", "kind", "variants")
        given = {key: self._located(key, value) for key, value in table.items() if key not in own}
        try:
            options = options_from(ClientOptions, given, study=True)
        except UsageError as error:
            raise self._wrong(f"{where}: {error.cause}", error.remedy) from error
        return StudyModel(
            name=self._text(table, "name", where),
            kind=self._text(table, "kind", where),
            options=options,
            weights=tuple(self._texts(table, "variants", where)) if "variants" in table else (FRESH,),
            definition=repr(sorted((k, v) for k, v in table.items() if k not in own)),
        )

    def _located(self, key: str, value: Any) -> Any:
        """A value whose path, if it holds one, is relative to the study file."""
        if not isinstance(value, str) or not value:
            return value
        return self._local(value) if key in _SOURCES else str(self._folder / value) if key in _PATHS else value

    def _grid(self, table: Mapping[str, Any], number: int, models: Sequence[StudyModel]) -> Grid:
        where = f"[[grid]] {number}"
        self._keys(table, ("models", "kinds", "weights", "references", "enhance", "null_seeds", "presets"), where)
        presets = tuple(self._texts(table, "presets", where)) if "presets" in table else ()
        for name in presets:
            self._one_of(name, EFFORTS, f"{where}: preset")
        enhance = tuple(self._texts(table, "enhance", where)) if "enhance" in table else ()
        for name in enhance:
            check_enhancer(name)
        return Grid(
            select=self._selector(
                {k: v for k, v in table.items() if k in ("models", "kinds", "weights")}, where, models
            ),
            references=tuple(self._whole_numbers(table, "references", where)) if "references" in table else (0,),
            enhance=enhance,
            null_seeds=self._whole(table.get("null_seeds", 1), f"{where}: null_seeds"),
            presets=presets,
        )

    def _chain(self, table: Mapping[str, Any], number: int, models: Sequence[StudyModel]) -> Chain:
        where = f"[[attacks]] {number}"
        self._keys(table, ("models", "kinds", "weights", "references", "run"), where)
        attacks = tuple(self._texts(table, "run", where))
        for name in attacks:
            self._one_of(name, BY_NAME, f"{where}: attack")
        if not attacks:
            raise self._wrong(f"{where} runs nothing", "name attacks of `fl-audit list attacks`")
        return Chain(
            select=self._selector({k: v for k, v in table.items() if k != "run"}, where, models), attacks=attacks
        )

    def _claim(self, table: Mapping[str, Any], number: int, models: Sequence[StudyModel]) -> Claim:
        where = f"[[claim]] {number}"
        self._keys(table, ("name", "text", "measure", "of", "against", "margin", "note"), where)
        margin = table.get("margin", 0.0)
        if isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin):
            raise self._wrong(f"{where}: margin is no number", "give the smallest effect that counts")
        against = table.get("against")
        self._one_of(self._text(table, "measure", where), MEASURES, f"{where}: measure")
        return Claim(
            name=self._text(table, "name", where),
            text=self._text(table, "text", where),
            measure=self._text(table, "measure", where),
            of=self._selector(table.get("of", {}), f"{where}: of", models),
            against=None if against is None else self._selector(against, f"{where}: against", models),
            margin=float(margin),
            note=self._optional_text(table, "note", where) or "",
        )

    def _selector(self, table: Any, where: str, models: Sequence[StudyModel]) -> Selector:
        if not isinstance(table, Mapping):
            raise self._wrong(f"{where} is no table", 'write e.g. { kinds = ["raw frames"], references = [0] }')
        self._keys(table, ("models", "kinds", "weights", "references"), where)
        names = {key: tuple(self._texts(table, key, where)) for key in ("models", "kinds", "weights") if key in table}
        for key, have in (("models", [m.name for m in models]), ("kinds", [m.kind for m in models]),
                          ("weights", [w for m in models for w in m.weights])):  # fmt: skip
            for pattern in names.get(key, ()):
                if not fnmatch.filter(have, pattern):
                    raise self._wrong(
                        f"{where}: {key} '{printable(pattern)}' matches nothing{did_you_mean(pattern, have)}", ""
                    )
        references = tuple(self._whole_numbers(table, "references", where)) if "references" in table else ()
        return Selector(**names, references=references)

    def _efforts(self, table: Mapping[str, Any]) -> Mapping[str, Effort]:
        self._keys(table, EFFORTS, "[preset]")
        efforts = {}
        for name, value in table.items():
            where = f"[preset.{name}]"
            self._keys(value, ("steps", "seconds"), where)
            efforts[name] = Effort(
                steps=self._whole(value.get("steps", 0), f"{where}: steps"),
                seconds=float(self._whole(value.get("seconds", 600), f"{where}: seconds")),
            )
            if efforts[name].steps < 1 or efforts[name].seconds <= 0:
                raise self._wrong(f"{where} allows no step", "set steps and seconds above 0")
        if not efforts:
            raise self._wrong("no [preset.fast] is given", "add one with steps")
        return efforts

    def _clip(self, clip: str) -> str:
        inside = self._folder / clip
        return str(inside) if inside.exists() else clip

    def _local(self, source: str) -> str:
        """A path is relative to the study file; other sources stay as they are."""
        path, colon, name = source.rpartition(":")
        if colon and path.endswith(".py"):
            return f"{self._folder / path}:{name}"
        return str(self._folder / source) if (self._folder / source).is_file() else source

    def _table(self, table: Mapping[str, Any], name: str, optional: bool = False) -> Mapping[str, Any]:
        value = table.get(name, {} if optional else None)
        if not isinstance(value, Mapping):
            raise self._wrong(f"there is no table [{name}]", "see docs/study.md")
        return value

    def _tables(self, table: Mapping[str, Any], name: str, optional: bool = False) -> Sequence[Mapping[str, Any]]:
        value = table.get(name, [] if optional else None)
        if not isinstance(value, list) or not all(isinstance(v, Mapping) for v in value) or not (value or optional):
            raise self._wrong(f"there is no [[{name}]]", "see docs/study.md")
        return value

    def _text(self, table: Mapping[str, Any], key: str, where: str) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not value:
            raise self._wrong(f"{where} has no {key}", "give a text")
        return value

    def _optional_text(self, table: Mapping[str, Any], key: str, where: str) -> str | None:
        return self._text(table, key, where) if key in table else None

    def _texts(self, table: Mapping[str, Any], key: str, where: str) -> list[str]:
        value = table.get(key)
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise self._wrong(f"{where}: {key} is no list of texts", 'write e.g. ["a", "b"]')
        return value

    def _whole_numbers(self, table: Mapping[str, Any], key: str, where: str) -> list[int]:
        value = table.get(key)
        if not isinstance(value, list):
            raise self._wrong(f"{where}: {key} is no list of whole numbers", "write e.g. [0, 1, 3]")
        return [self._whole(v, f"{where}: {key}") for v in value]

    def _whole(self, value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(f"{where} holds {printable(str(value))}, which is no whole number", "give 0, 1, 2, ...")
        return value

    def _one_of(self, name: str, known: Iterable[str], where: str) -> None:
        if name not in known:
            raise self._wrong(f"{where} '{printable(name)}' is unknown{did_you_mean(name, known)}", "correct the name")

    def _keys(self, table: Any, known: Sequence[str], where: str) -> None:
        if not isinstance(table, Mapping):
            raise self._wrong(f"{where} is no table", "see docs/study.md")
        for key in table:
            if key not in known:
                raise self._wrong(
                    f"{where}: '{printable(key)}' is unknown{did_you_mean(key, known)}", "correct the key"
                )

    def _wrong(self, cause: str, remedy: str) -> UsageError:
        return UsageError(f"{printable(self._path.name)}: {cause}", remedy or "correct the file")


# Of numpy and of torch alike.
_LARGEST_SEED = 2**32
# Options of a model that may name a file, and those that do.
_SOURCES = ("model", "extractor", "head", "loss")
_PATHS = tuple(o.name for o in options_of(ClientOptions) if o.study and isinstance(o.kind, FilePath))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, p) for p in patterns)
