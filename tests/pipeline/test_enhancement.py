"""The enhancement stage on a reconstruction whose worth is known: the word, the null, time that runs out, failures."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from auditor.enhance import DatLight, Enhanced, bicubic
from auditor.errors import AuditError
from auditor.pipeline import enhancement
from auditor.pipeline.documents.findings import enhancement_block
from auditor.pipeline.documents.pictures import strips
from auditor.pipeline.enhancement import enhance_results
from auditor.pipeline.progress import Silent
from auditor.pipeline.scored.scoring import Result
from auditor.probe import Galleries, shipped_probes
from auditor.records import InputSpec, Outcome, Reconstruction
from auditor.results.encode import document
from auditor.score import blind_guesses, score_clip

SPEC = InputSpec(frames=2, channels=3, height=32, width=32, layout="NCTHW")


@dataclass(frozen=True)
class Toy:
    """Bicubic and a change; `seconds` is what it says it takes."""

    name: str = "toy"
    scale: int = 2
    seconds: float = 0.0
    contrast: float = 1.0
    broken: bool = False
    raises: Exception | None = None

    def __call__(self, clip):
        if self.raises is not None:
            raise self.raises
        if self.broken:
            raise AuditError("the toy is broken", "mend it")
        larger = bicubic(clip, self.scale).clip
        return Enhanced(
            method=self.name, scale=self.scale, clip=(0.5 + self.contrast * (larger - 0.5)).clamp(0, 1), seconds=0.0
        )

    def seconds_estimate(self, clip_shape):
        return self.seconds


@pytest.fixture(scope="module")
def probes():
    return shipped_probes(SPEC, 2)


@pytest.fixture(scope="module")
def galleries(probes):
    return Galleries(SPEC, probes)


@pytest.fixture
def finding(probes, galleries):
    """One finding: the exact clip, with the other clip as its null."""
    gallery, clip, null = galleries[probes[0].name], probes[0].clip, probes[1].clip
    result = Result(
        observed=SimpleNamespace(probe=probes[0]),
        reconstruction=Reconstruction(
            attack="toy", clips=clip[None], labels=(0,), outcome=Outcome.SOLVED, objective=0.0
        ),
        clip=clip,
        score=score_clip(probes[0], clip, gallery),
        repetition=0,
        null_clip=null,
        null=score_clip(probes[0], null, gallery),
        guesses=blind_guesses(gallery, (32, 32), None),
    )
    return SimpleNamespace(attack=SimpleNamespace(title="Toy attack"), reference=False, results=(result,))


@pytest.fixture(scope="module", autouse=True)
def scored_once():
    """Score equal pictures once: most toys are bicubic, and networks look at each for a second."""
    score, known = enhancement._scores, {}

    def remembered(result, gallery, made, null):
        clips = (result.clip, gallery, made.clip, *(() if null is None else (null.clip,)))
        key = tuple(clip.numpy().tobytes() for clip in clips)
        if key not in known:
            known[key] = score(result, gallery, made, null)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enhancement, "_scores", remembered)
        yield


@pytest.fixture
def only(monkeypatch, finding, galleries):
    """Run the stage with these enhancers in place of the built-in ones."""

    def call(*enhancers, seconds=60.0):
        monkeypatch.setattr(enhancement, "DatLight", lambda scale: Toy(name=f"dat {scale}"))
        monkeypatch.setattr(enhancement, "Fusion", lambda scale: Toy(name=f"fusion {scale}"))
        done, skipped = enhance_results([finding], galleries, seconds, Silent(), enhancers)
        return {e.method: e for made in done.values() for e in made}, skipped

    return call


def test_dat_recovers_detail_of_an_exact_clip_and_finds_nothing_in_its_null(finding, galleries, monkeypatch):
    monkeypatch.setattr(enhancement, "Fusion", lambda scale: Toy(name=f"fusion {scale}"))
    monkeypatch.setattr(enhancement, "DatLight", lambda scale: DatLight(scale) if scale == 2 else Toy(name="dat 4"))
    done, _ = enhance_results([finding], galleries, 600.0, Silent())
    made = {e.method: e for e in done[id(finding.results[0])]}
    dat = made["DAT-light"]
    assert dat.gain_over_bicubic > 1.0  # measured 2.1
    assert dat.null_gain < 0.2
    assert dat.null.rank > 1
    assert dat.added.word == "recovered detail"
    assert dat.score.perceptual < made["bicubic"].score.perceptual
    block = document(enhancement_block(dat))
    assert block["added"]["word"] == "recovered detail"
    pictures = document(strips(finding.results[0], done[id(finding.results[0])]))
    assert pictures["enhanced_method"] == "DAT-light x2"
    assert len(pictures["enhanced_null"]) == len(pictures["enhanced"]) == SPEC.frames


def test_bicubic_itself_adds_nothing_and_contrast_is_worse(only):
    made, _ = only(Toy(name="same"), Toy(name="harsh", contrast=1.6))
    assert made["same"].added.word == "nothing"
    assert made["same"].gain_over_bicubic == pytest.approx(0.0, abs=1e-6)
    assert made["bicubic"].added is None
    assert made["harsh"].gain_over_bicubic < -0.5
    assert made["harsh"].added.word in ("worse", "only prettier")


def test_every_scale_is_held_against_its_own_bicubic(only, galleries):
    made, _ = only(Toy(name="four", scale=4))
    assert made["four"].gain_over_bicubic == pytest.approx(0.0, abs=1e-6)
    assert made["four"].clip.shape[-2:] == (128, 128)


def test_what_takes_too_long_is_skipped_with_its_time(only):
    made, skipped = only(Toy(name="slow", seconds=1e6))
    assert "slow" not in made
    (late,) = skipped
    assert (late.what, late.because) == ("slow x2", "out-of-budget")
    assert "it is about 2000000 s of work" in late.reason
    assert "Toy attack" in late.reason


def test_without_time_everything_is_skipped_by_name(only):
    made, skipped = only(Toy(name="mine"), seconds=0.0)
    assert not made
    assert [s.what for s in skipped] == ["dat 2 x2", "mine x2", "fusion 2 x2", "dat 4 x2", "fusion 4 x2"]


def test_a_network_that_fails_is_told_and_the_others_run(only):
    made, skipped = only(Toy(name="broken", broken=True))
    (failed,) = skipped
    assert (failed.what, failed.because) == ("broken x2", "failed")
    assert "the toy is broken" in failed.reason
    assert "dat 2" in made


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_a_network_that_memory_does_not_hold_is_told_so_and_the_others_run(only, error):
    made, skipped = only(Toy(name="large", raises=error))
    (short,) = skipped
    assert (short.stage, short.what, short.because) == ("enhance", "large x2", "out-of-memory")
    assert "it ran out of memory (" in short.reason
    assert "more memory" in short.remedy
    assert "dat 2" in made


def test_a_defect_of_a_network_is_no_lack_of_memory(only):
    with pytest.raises(RuntimeError, match="shapes"):
        only(Toy(name="wrong", raises=RuntimeError("shapes do not fit")))


def test_no_finding_no_enhancement(galleries):
    assert enhance_results([], galleries, 60.0, Silent()) == ({}, ())


def test_a_batch_of_grey_clips_is_enhanced_too():
    grey = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert DatLight(4)(grey).clip.shape == (1, 1, 32, 32)
