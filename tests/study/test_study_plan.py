"""Study files: what they may say, and one line for whatever they may not."""

from pathlib import Path

import pytest

from auditor.errors import UsageError
from auditor.journal import alone
from auditor.options import StudyOptions
from auditor.study import lay_out, read_study, study
from auditor.study.cells import work_of

ROOT = Path(__file__).parents[2]
NETS = Path(__file__).parent.parent / "study_nets.py"
FILE = f"""
[study]
title = "Tiny"
clips = ["park_walker", "hand_box", "city_night"]
seeds = [0, 1]
[preset.fast]
steps = 60
[training]
program = "{NETS}:train"
[[model]]
name = "flat"
kind = "raw"
model = "{NETS}:flat"
input_shape = [3, 4, 16, 16]
variants = ["fresh", "trained"]
[[model]]
name = "conv"
kind = "raw"
model = "{NETS}:conv"
input_shape = [3, 4, 16, 16]
[[grid]]
references = [0]
[[grid]]
models = ["flat"]
weights = ["fresh"]
references = [0, 1]
enhance = ["DAT-light x2"]
null_seeds = 2
[[attacks]]
references = [0]
run = ["linear-input", "gradient-matching"]
[[attacks]]
references = [1]
run = ["gradient-matching-r1"]
[[claim]]
name = "leak"
text = "They leak"
measure = "lead"
of = {{ references = [0] }}
margin = 1.0
"""


def written(tmp_path, text: str) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def laid_out(tmp_path, text: str = FILE):
    return lay_out(read_study(written(tmp_path, text)), StudyOptions(out=tmp_path / "out"))[0]


def test_blocks_that_name_a_cell_twice_add_up(tmp_path):
    work = laid_out(tmp_path)
    cells = {c.name: c for c in work.cells}
    assert list(cells) == ["flat, fresh, R0", "flat, trained, R0", "conv, fresh, R0", "flat, fresh, R1"]
    assert cells["flat, fresh, R0"].enhance == ("DAT-light x2",)
    assert cells["flat, fresh, R0"].null_seeds == 2
    assert cells["flat, trained, R0"].null_seeds == 1
    assert cells["flat, fresh, R1"].attacks == ("gradient-matching-r1",)
    own = [u for u in work.units if u.role == "own"]
    null = [u for u in work.units if u.role == "null"]
    assert len(own) == 4 * 3 * 2
    assert len(null) == (2 + 1 + 1 + 2) * 3
    assert len(work.trainings) == 2


def test_without_a_reference_the_null_is_the_reconstruction_of_another_clip(tmp_path):
    work = laid_out(tmp_path)
    keys = {u.key: u for u in work.units}
    for unit in work.units:
        if unit.role == "null":
            assert unit.other != unit.clip
            assert bool(unit.own) == (unit.cell.references == 0)
            if unit.own:
                assert keys[unit.own].clip == unit.other
                assert keys[unit.own].cell is unit.cell


def test_keys_are_of_all_that_a_unit_depends_on(tmp_path):
    base = {u.key for u in laid_out(tmp_path).units}
    assert len(base) == len(laid_out(tmp_path).units)
    assert {u.key for u in laid_out(tmp_path, FILE.replace('title = "Tiny"', 'title = "Other"')).units} == base
    for change in (
        ("steps = 60", "steps = 61"),
        ("[3, 4, 16, 16]", "[3, 4, 16, 18]"),
        ("linear-input", "patch-embedding"),
    ):
        assert not {u.key for u in laid_out(tmp_path, FILE.replace(*change)).units if u.cell.references == 0} & base


def test_a_file_beside_the_model_that_changes_makes_other_keys(tmp_path):
    """The model's file may import it."""
    (tmp_path / "nets.py").write_bytes(NETS.read_bytes())
    text = FILE.replace(str(NETS), str(tmp_path / "nets.py"))
    before = {u.key for u in laid_out(tmp_path, text).units}
    assert {u.key for u in laid_out(tmp_path, text).units} == before
    (tmp_path / "layers.py").write_text("WIDTH = 4\n", encoding="utf-8")
    assert not {u.key for u in laid_out(tmp_path, text).units} & before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title =", "titel ="), "'titel' is unknown (did you mean title?)"),
        (('measure = "lead"', 'measure = "led"'), "measure 'led' is unknown (did you mean lead?)"),
        (('"gradient-matching"]', '"gradient-matchin"]'), "attack 'gradient-matchin' is unknown"),
        (('models = ["flat"]', 'models = ["flta"]'), "models 'flta' matches nothing (did you mean flat?)"),
        (('enhance = ["DAT-light x2"]', 'enhance = ["DAT-light x3"]'), "there is no enhancement 'DAT-light x3'"),
        (("seeds = [0, 1]", "seeds = [0, -1]"), "which is no whole number"),
        (("seeds = [0, 1]", "seeds = []"), "no seed is given"),
        (("seeds = [0, 1]", "seeds = [0, 0]"), "a seed is named twice"),
        (("seeds = [0, 1]", "seeds = [4294967296]"), "too large"),
        (("margin = 1.0", "margin = nan"), "margin is no number"),
        (('enhance = ["DAT-light x2"]', "enhance = 2"), "enhance is no list of texts"),
        (('name = "conv"', 'name = "conv"\narg = 5'), "[[model]] 2: --arg 5 is not name=value"),
        (('"hand_box", "city_night"]', '"a/x.npz", "b/x.npz"]'), "two clips have the same file name"),
        (('"hand_box", "city_night"]', "]"), "two different clips"),
        (('name = "conv"', 'name = "flat"'), "two models have the same name"),
        (("margin = 1.0", 'margin = "x"'), "margin is no number"),
        (("steps = 60", "steps = 0"), "allows no step"),
        ((f'program = "{NETS}:train"', ""), "need a training program"),
        (("[study]", "[study"), "is no TOML"),
        (("[[claim]]", "[[claims]]"), "'claims' is unknown (did you mean claim?)"),
        (
            ('[[attacks]]\nreferences = [1]\nrun = ["gradient-matching-r1"]', ""),
            "no [[attacks]] block takes flat with 1",
        ),
    ],
)  # fmt: skip
def test_whatever_is_wrong_is_named_in_one_line(tmp_path, change, message):
    assert change[0] in FILE
    with pytest.raises(UsageError) as raised:
        laid_out(tmp_path, FILE.replace(*change, 1))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_another_preset_needs_a_table_of_its_own(tmp_path):
    plan = read_study(written(tmp_path, FILE))
    with pytest.raises(UsageError, match=r"has no \[preset.deep\]"):
        lay_out(plan, StudyOptions(out=tmp_path, preset="deep"))


def test_the_shipped_example_covers_the_paper():
    work, _ = lay_out(read_study(ROOT / "examples" / "rasul2025.toml"), StudyOptions(out=ROOT / "nowhere"))
    cells = work.cells
    assert {c.references for c in cells} == {0, 1, 3}
    assert {c.weights for c in cells} == {"fresh", "trained"}
    assert len({c.model.name for c in cells}) == 10
    assert any(c.enhance for c in cells)
    assert len({u.clip for u in work.units}) >= 5
    assert len({u.seed for u in work.units}) >= 3


def test_clips_of_one_content_are_refused_whatever_their_names(tmp_path):
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).write_bytes(b"the same")
    with pytest.raises(UsageError, match="two clips have the same content"):
        laid_out(tmp_path, FILE.replace('"hand_box", "city_night"', '"a.npz", "b.npz"'))


def test_units_of_one_device_are_not_taken_for_those_of_another(tmp_path):
    plan = read_study(written(tmp_path, FILE))
    here, there = set(work_of(plan, "fast").keys), set(work_of(plan, "fast", "cuda").keys)
    assert here == set(work_of(plan, "fast", "cpu").keys)
    assert not here & there


def test_a_second_study_in_a_folder_is_told(tmp_path):
    folder = tmp_path / "out" / "units"
    folder.mkdir(parents=True)
    options = StudyOptions(out=tmp_path / "out", device="cpu")
    with alone(folder), pytest.raises(UsageError, match="at work in"):
        study(read_study(written(tmp_path, FILE)), options, lambda progress: None)
