"""Finished parts: kept to the bit, by all that they depend on, and taken up only where that is the same."""

import enum
import errno
import math
import subprocess
import sys

import pytest
import torch

from auditor.attack import ATTACKS
from auditor.errors import UsageError
from auditor.journal import clear, digest_of, journaling, kept, parameters_digest
from auditor.journal.form import plain, whole
from auditor.records import Clock, Outcome, Skipped, charge, counting
from auditor.records.reconstruction import Checkpoint, Reconstruction
from auditor.results.attempts import Trace


def made() -> Reconstruction:
    clips = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return Reconstruction(
        attack="a", clips=clips, outcome=Outcome.SOLVED, objective=math.inf, labels=(1, (2, 3), 0.5),
        certificate={"update_residual": math.nan, "rank": 3.0}, restart_objectives=(-math.inf, 0.1 + 0.2),
        trace=(Trace(step=1, seconds=0.25, objective=1.0),),
        checkpoints=(Checkpoint(step=1, seconds=0.1, objective=2.0, clips=clips.half(), current=clips[:1].half()),),
    )  # fmt: skip


def test_a_record_comes_back_to_the_bit():
    first, tensors = made(), {}
    again = whole(plain(first, tensors), tensors)
    assert type(again) is Reconstruction
    assert torch.equal(again.clips, first.clips)
    assert again.clips.dtype == torch.float32
    assert torch.equal(again.checkpoints[0].current, first.checkpoints[0].current)
    assert again.checkpoints[0].clips.dtype == torch.float16
    assert again.outcome is Outcome.SOLVED
    assert again.labels == (1, (2, 3), 0.5)
    assert math.isnan(again.certificate["update_residual"])
    assert again.objective == math.inf
    assert again.restart_objectives == (-math.inf, 0.1 + 0.2)
    assert again.trace[0].seconds == 0.25


@pytest.mark.parametrize(
    "form",
    [
        {"record": "os:system", "fields": {}},
        {"record": "auditor.cli.main:main", "fields": {}},
        {"record": "auditor.journal.folder:Journal", "fields": {"folder": "x"}},
        {"enum": "auditor.records:Outcome", "name": "NONE"},
        {"enum": "pathlib:Path", "name": "x"},
        {"tensor": "5", "on": "cpu"},
        {"else": 1},
    ],
)
def test_a_journal_makes_nothing_but_records_of_this_program(form):
    with pytest.raises((ValueError, LookupError)):
        whole(form, {})


class Foreign(enum.Enum):
    ONE = 1


@pytest.mark.parametrize(
    "value", [lambda: 0, object(), Foreign.ONE, {1, 2}, print], ids=["function", "object", "enum", "set", "built-in"]
)
def test_what_has_no_content_is_refused(value):
    with pytest.raises(TypeError):
        digest_of(value)


def test_every_attack_can_be_told_from_every_other():
    digests = [digest_of(attack) for attack in ATTACKS]
    assert len(set(digests)) == len(ATTACKS)


def test_a_digest_sees_every_bit_every_shape_and_every_order():
    x = torch.zeros(2, 3)
    one_bit = x.clone()
    one_bit[1, 2] = torch.finfo(torch.float32).tiny  # less counts as zero
    others = (
        (one_bit,), (x.reshape(3, 2),), (x.double(),), (x, x), ({"a": x},), ({"b": x},),
        ("x",), (0.0,), (-0.0,), (False,),
    )  # fmt: skip
    digests = [digest_of(*parts) for parts in ((x,), *others)]
    assert len(set(digests)) == len(digests)
    assert digest_of(x.t().contiguous().t()) == digest_of(x)


def test_a_model_that_is_changed_in_place_has_another_digest():
    net = torch.nn.Linear(3, 2)
    before = parameters_digest(net)
    assert parameters_digest(net) == before
    with torch.no_grad():
        net.weight[0, 0] += 1e-6
    assert parameters_digest(net) != before


def counted(value: float, calls: list[float], work: float = 2.0):
    def make() -> Skipped:
        calls.append(value)
        charge(work)
        return Skipped(stage="s", what=str(value), because="failed", reason="")

    return make


def test_a_finished_unit_is_taken_up_with_its_work(tmp_path):
    folder, calls, told = tmp_path / "unfinished", [], []
    with counting(), journaling(folder, "p") as parts:
        clock = Clock(10.0)
        first = kept("s", lambda: (1,), counted(1.0, calls))
        assert clock.used == pytest.approx(2.0)
        kept("s", lambda: (2,), counted(2.0, calls))
        assert (parts.added, parts.taken, parts.units) == (2, 0, 2)
    with counting(), journaling(folder, "p", told.append) as parts:
        clock = Clock(10.0)
        again = kept("s", lambda: (1,), counted(1.0, calls))
        assert clock.used == pytest.approx(2.0, abs=1e-12)
        kept("s", lambda: (3,), counted(3.0, calls))
        kept("other", lambda: (1,), counted(4.0, calls))
        assert (parts.added, parts.taken) == (2, 1)
    assert calls == [1.0, 2.0, 3.0, 4.0]
    assert again.what == first.what == "1.0"
    assert told == ["going on with an audit that was interrupted: 2 of its parts are done"]


def test_another_program_takes_nothing_up(tmp_path):
    calls = []
    for program in ("old", "new"):
        with journaling(tmp_path / "u", program):
            kept("s", lambda: (1,), counted(1.0, calls))
    assert len(calls) == 2


def test_what_cannot_be_told_is_made_anew_and_not_kept(tmp_path):
    calls = []
    with journaling(tmp_path / "u", "p") as parts:
        kept("s", lambda: (print,), counted(1.0, calls))
        kept("s", lambda: (print,), counted(1.0, calls))
        assert parts.added == 0
    assert len(calls) == 2
    assert not (tmp_path / "u").exists()


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "nonsense"])
def test_a_damaged_unit_is_made_again(tmp_path, suffix, damage):
    def kept_one() -> Reconstruction:
        return kept("s", lambda: (1,), made)

    with journaling(tmp_path / "u", "p"):
        first = kept_one()
    (path,) = (tmp_path / "u").glob(f"*{suffix}")
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "emptied": b"", "nonsense": b"{}"}[damage])
    with journaling(tmp_path / "u", "p") as parts:
        assert torch.equal(kept_one().clips, first.clips)
        assert (parts.taken, parts.added) == (0, 1)
    with journaling(tmp_path / "u", "p") as parts:
        kept_one()
        assert parts.taken == 1


def test_a_full_disk_costs_the_way_back_and_not_the_audit(tmp_path, monkeypatch):
    calls, told = [], []
    with journaling(tmp_path / "u", "p", told.append) as parts:
        kept("s", lambda: (0,), counted(0.0, calls))

        def full(path, content):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("auditor.journal.folder.replace_file", full)
        kept("s", lambda: (1,), counted(1.0, calls))
        kept("s", lambda: (2,), counted(2.0, calls))
        assert parts.trouble == "No space left on device"
    assert len(calls) == 3
    assert len(told) == 1
    assert "an interruption would lose them" in told[0]
    assert len(list((tmp_path / "u").glob("*.json"))) == 1


def test_a_second_process_is_told_and_mixes_nothing(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom auditor.errors import UsageError\n"
        "from auditor.journal import journaling\n"
        "try:\n    with journaling(Path(sys.argv[1]), 'p'):\n        print('in')\n"
        "except UsageError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "report" / "unfinished")]
    with journaling(tmp_path / "report" / "unfinished", "p"):
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "another audit is at work in" in told
        assert "report" in told
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "in\n"


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError), journaling(tmp_path / "file" / "unfinished", "p"):
        pass


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path):
    folder = tmp_path / "u"

    def half() -> None:
        (folder / f".{'0' * 64}.json.abc.part").write_text("half")

    with journaling(folder, "p"):
        kept("s", lambda: (1,), made)
        half()
    (part,) = folder.glob("*.json")
    assert sorted(p.name for p in folder.iterdir()) == sorted(("lock", part.name, f"{part.stem}.safetensors"))
    half()
    with journaling(folder, "p"):
        assert not list(folder.glob(".*"))


def test_clearing_leaves_what_is_not_the_journals(tmp_path):
    folder = tmp_path / "u"
    with journaling(folder, "p"):
        kept("s", lambda: (1,), made)
        (part,) = folder.glob("*.json")
        (folder / f".{part.name}.abc.part").write_text("half")
        for mine in ("mine.txt", "mine.json", ".mine.json.abc.part"):
            (folder / mine).write_text("mine")
        with pytest.raises(UsageError, match="another audit is at work"):
            clear(folder)
        assert part.exists()
    clear(folder)
    assert sorted(p.name for p in folder.iterdir()) == [".mine.json.abc.part", "mine.json", "mine.txt"]
