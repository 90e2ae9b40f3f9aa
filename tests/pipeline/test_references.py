"""References of every kind are handled and told, and none of them turns a null into a finding."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bench_nets import clip, seeded, target_of
from PIL import Image
from torch import nn

from auditor.attack import BY_NAME, PRESETS
from auditor.errors import UsageError
from auditor.pipeline.context import observe_probes, set_up
from auditor.pipeline.documents.asides import references_block
from auditor.pipeline.findings import make_findings
from auditor.pipeline.references import References, copied, references_from
from auditor.pipeline.units import Ran, Unit, plan, unit_view
from auditor.probe import Galleries, canary, gallery, shipped_probes
from auditor.records import FederatedProtocol, InputSpec, Outcome, Reconstruction
from auditor.results.encode import document
from auditor.score import Grade

SPEC = InputSpec(frames=4, channels=3, height=16, width=16, layout="NCTHW")
R1, RK = BY_NAME["least-squares-matching-r1"], BY_NAME["least-squares-matching-rk"]


@pytest.fixture(scope="module")
def probes():
    return (*shipped_probes(SPEC, 3), canary(SPEC, 0))


@pytest.fixture(scope="module")
def context():
    def net():
        return nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, 10))

    return set_up(target_of(seeded(net), SPEC, 10), FederatedProtocol(batch=1), torch.device("cpu"), 0)


def picture(path, size=(16, 16), value=None, seed=0):
    """A picture of noise, or of one colour; `size` is (height, width)."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise if value is None else np.full((*size, 3), value, np.uint8)).save(path)
    return str(path)


def test_what_attackers_hold(probes):
    own = probes[0].clip
    assert torch.equal(References().held(R1, probes[0]), own[:1])
    assert torch.equal(References().held(RK, probes[0]), own[:3])
    assert References().held(BY_NAME["least-squares-matching"], probes[0]) is None
    assert torch.equal(References(first=2).held(R1, probes[0]), own[1:2])
    given = References(given=torch.stack([clip(s, SPEC)[0] for s in range(12)]))
    assert torch.equal(given.held(R1, probes[0]), given.given[-1:])
    assert torch.equal(given.held(RK, probes[0]), given.given[-8:])


def test_only_an_attack_with_several_frames_needs_several(probes):
    one = References(first=1)
    assert one.obstacle(RK, probes[0]) is not None
    assert one.obstacle(R1, probes[0]) is None
    assert References().obstacle(RK, probes[0]) is None
    assert not one.several
    assert References(first=2).several


def test_files_of_every_kind_are_read_in_order(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    pictures = [picture(folder / f"{i}.png", seed=i) for i in (1, 2, 10)]
    np.savez(tmp_path / "clip.npz", frames=np.stack([np.full((16, 16, 3), v, np.uint8) for v in range(0, 240, 20)]))
    found = references_from([pictures[0], str(folder), str(tmp_path / "clip.npz")], SPEC)
    assert found.given.shape == (1 + 3 + 8, 3, 16, 16)
    assert torch.equal(found.given[0], found.given[1])
    # Twelve frames thinned out to eight, the first and the last among them.
    assert float(found.given[4].mean()) == pytest.approx(0.0)
    assert float(found.given[-1].mean()) == pytest.approx(220 / 255, abs=1e-6)
    assert found.source == "1.png, frames, clip.npz"


@pytest.mark.parametrize("number", ["0", "4", "x", pytest.param("9" * 5000, id="long")])
def test_a_number_of_frames_must_leave_some_of_the_clip(number):
    with pytest.raises(UsageError, match="not first:K"):
        references_from([f"first:{number}"], SPEC)
    assert references_from(["first:3"], SPEC).first == 3


def test_what_is_wrong_with_files_is_one_line(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(200)))
    (tmp_path / "empty").mkdir()
    for given in ([str(broken)], [str(tmp_path / "empty")], [str(tmp_path / "gone.mp4")], ["first:1", str(broken)]):
        with pytest.raises(UsageError) as error:
            references_from(given, SPEC)
        assert "\n" not in error.value.cause
        assert error.value.remedy


def test_what_a_folder_holds_beside_frames_is_told(tmp_path):
    picture(tmp_path / "1.png")
    for name in ("notes.txt", "clip.mp4", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    found = references_from([str(tmp_path)], SPEC)
    assert len(found.given) == 1
    assert any("2 of the folder's 3 entries" in note for note in found.notes)


def test_references_that_nobody_used_are_told(tmp_path):
    given = references_from([picture(tmp_path / "grey.png", value=128)], SPEC)
    block = document(references_block(given, (), used=False))
    assert block["given"]
    assert "no part in this audit" in block["notes"][0]
    assert any("single colour" in note for note in block["notes"])
    assert references_block(References(), (), used=False) is None


def test_frames_of_another_size_or_of_one_colour_are_told(tmp_path):
    resized = references_from([picture(tmp_path / "large.png", (40, 60))], SPEC)
    assert resized.given.shape == (1, 3, 16, 16)
    assert resized.notes == ("large.png: resized from 40x60 to the model's 16x16",)
    grey = references_from([picture(tmp_path / "grey.png", value=128)], SPEC)
    assert any("single colour" in note for note in grey.notes)
    twice = references_from([picture(tmp_path / "a.png"), picture(tmp_path / "b.png")], SPEC)
    assert any("are equal" in note for note in twice.notes)


def test_how_near_the_frames_are_is_told_of_every_clip(probes):
    candidates = gallery(SPEC, probes[0]).clips
    own = copied(References(given=probes[0].clip), RK, probes[0], candidates)
    assert math.isinf(own.psnr)
    assert "is the clip itself: no finding" in own.notes[0]
    near = probes[0].clip + 0.01 * torch.randn(probes[0].clip.shape, generator=torch.Generator().manual_seed(0))
    rounded = copied(References(given=near.clamp(0, 1)), RK, probes[0], candidates)
    assert "no finding can rest on them" in rounded.notes[0]
    black = copied(References(given=torch.zeros(1, 3, 16, 16)), R1, probes[0], candidates)
    assert "of another scene" in black.notes[0]
    # The attackers of R1 and Rk hold different frames of one clip: their notes are told apart.
    three = copied(References(given=torch.zeros(3, 3, 16, 16)), RK, probes[0], candidates)
    assert "(1 held)" in black.notes[0]
    assert "(3 held)" in three.notes[0]
    assert copied(References(), R1, probes[0], candidates).notes == ()
    assert copied(References(), BY_NAME["gradient-matching"], probes[0], candidates) is None


def test_the_attacker_holds_frames_of_the_scored_scene_and_the_update_of_the_other(context, probes):
    observed = observe_probes(context, probes)
    view = unit_view(context, observed, Unit(attack=R1, truth=0, update=3, repetition=0))
    assert torch.equal(view.knowledge.reference, probes[0].clip[:1])
    assert view.update is observed[3].update
    assert (
        unit_view(
            context, observed, Unit(attack=BY_NAME["linear-input"], truth=0, update=0, repetition=0)
        ).knowledge.reference
        is None
    )


@pytest.fixture(scope="module")
def seen(context, probes):
    return observe_probes(context, probes), Galleries(SPEC, probes)


def findings_of(context, probes, seen, references, make, name):
    """Findings of an attack that returns `make(frames, truth, update's clip)` on two clips, with its nulls."""
    attack = BY_NAME[name]
    observed, galleries = seen
    ran = []
    for truth in range(2):
        for update in (truth, 3):
            frames = references.held(attack, probes[truth])
            made = make(frames, probes[truth].clip, probes[update].clip)
            result = Reconstruction(
                attack=attack.name, clips=made[None].clamp(0, 1), labels=(0,), outcome=Outcome.CONVERGED, objective=0.0
            )
            ran.append(Ran(unit=Unit(attack=attack, truth=truth, update=update, repetition=0), result=result))
    return make_findings(context, observed, ran, galleries, references)


REFERENCES = {
    "own frames": lambda probes: References(),
    "three own frames": lambda probes: References(first=3),
    "the whole clip": lambda probes: References(given=probes[0].clip),
    "another scene": lambda probes: References(given=clip(5, SPEC)[:1]),
    "grey": lambda probes: References(given=torch.full((2, 3, 16, 16), 0.5)),
    "black": lambda probes: References(given=torch.zeros(1, 3, 16, 16)),
}


# Every kind of reference in the default tests, and both attackers with half of the kinds each.
HELD = [
    pytest.param(kind, attack.name, marks=pytest.mark.slow if (place + other) % 2 else ())
    for place, kind in enumerate(REFERENCES)
    for other, attack in enumerate((R1, RK))
]


@pytest.mark.parametrize(("kind", "name"), HELD)
def test_what_ignores_the_update_is_no_finding(context, probes, seen, kind, name):
    """The copy itself, its neighbours, and an attack that follows the reference whatever update it gets."""
    references = REFERENCES[kind](probes)
    t = torch.linspace(0, 1, 4)[:, None, None, None]
    made = {
        "copy": lambda frames, truth, other: frames[-1:].expand(4, -1, -1, -1),
        "interpolated": lambda frames, truth, other: (1 - t) * frames[:1] + t * frames[-1:],
        "sharpened": lambda frames, truth, other: (frames[-1:].expand(4, -1, -1, -1) - 0.5) * 1.1 + 0.5,
        # As good as can be, but the update has no part in it: its null gives it away.
        "oracle": lambda frames, truth, other: truth,
    }
    for what, make in made.items():
        for finding in findings_of(context, probes, seen, references, make, name):
            assert not (finding.counts and finding.grade > Grade.NOT_SHOWN), (what, finding.grade)
            if what != "oracle":
                assert finding.grade is Grade.NOT_SHOWN, what


def test_what_follows_the_update_is_a_finding(context, probes, seen):
    """The other way: a clip that comes from the update, and from it alone, counts in spite of a poor reference."""
    references = References(given=torch.full((1, 3, 16, 16), 0.5))
    (finding,) = findings_of(context, probes, seen, references, lambda frames, truth, other: other, R1.name)
    assert finding.counts
    assert finding.grade is Grade.EXACT


def test_references_of_the_users_bring_the_attacks_that_use_several():
    fast = PRESETS["fast"]
    assert not any(a.frames_of_scene > 1 for a in fast.attacks)
    several = fast.with_several_references()
    assert sum(a.frames_of_scene > 1 for a in several.attacks) >= 2
    standard = PRESETS["standard"]
    assert standard.with_several_references() is standard
    observed = [SimpleNamespace(probe=SimpleNamespace(name=str(i), kind="real")) for i in range(3)]
    informed = [u for u in plan(several, observed) if u.attack.frames_of_scene]
    assert {u.is_null for u in informed} == {True, False}
    assert sum(u.is_null for u in informed) == len(informed) / 2
