"""Blocks that are put together of several records: every number stands under the name of what it is."""

import datetime
import math
from types import SimpleNamespace

import pytest
import torch
from bench_nets import flat, seeded, target_of
from record_samples import differences, sample

from auditor.attack import BY_NAME
from auditor.exposure import Exposed
from auditor.options import ClientOptions
from auditor.pipeline.diagnosis import Diagnosed
from auditor.pipeline.documents import audit
from auditor.pipeline.documents.asides import malicious_block, membership_block, references_block, variant_blocks
from auditor.pipeline.documents.findings import finding_blocks
from auditor.pipeline.documents.model import layer_blocks, model_block, probe_block, protocol_block
from auditor.pipeline.enhancement import Enhancement
from auditor.pipeline.findings import Finding
from auditor.pipeline.identity import Identity
from auditor.pipeline.membership import Asked, ClipAsked, Membership
from auditor.pipeline.planted.manipulation import MaliciousServer, Manipulation
from auditor.pipeline.references import Copied, References
from auditor.pipeline.scored.scoring import Result
from auditor.pipeline.training import loss_of, observe_all, trained
from auditor.pipeline.what_if import Variant
from auditor.probe import shipped_probes
from auditor.records import Exposure, Probe, Reconstruction, Skipped
from auditor.results.attempts import Attempt, Diagnosis
from auditor.results.encode import document
from auditor.results.findings import Added, EnhancedScore
from auditor.results.scores import ClipScore, FaceMatch, Interval, Retrieval
from auditor.score import Grade, MembershipTest, Severity
from auditor.study.features import features_block
from auditor.study.unit import study_score

CLIP = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SEVERITY = Severity(score=7.5, vector="V", fidelity=0.8, preconditions=0.95, reach=0.4)


def interval(hits: int) -> Interval:
    return Interval(hits=hits, trials=hits + 40, low=hits / 1000, high=hits / 500, chance=hits / 2000, method="m")


def score(first: float, **change) -> ClipScore:
    return ClipScore(
        psnr=first, psnr_frames=(first + 1, first + 4, first + 2), ssim_frames=(0.1, 0.4, 0.3),
        baselines={"grey": first - 3, "reference copy": first - 5}, gain=first + 6, motion=first + 7,
        motion_gain=first + 8, rank=3, gallery=29, **change,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finding():
    probe = Probe(name="walker", kind="real", clip=CLIP, native=CLIP, sha256="0", source="here")
    written = {f: getattr(sample(Attempt), f) for f in Attempt.__dataclass_fields__}
    result = Result(
        observed=SimpleNamespace(probe=probe),  # type: ignore[arg-type]
        reconstruction=Reconstruction(attack="x", clips=CLIP[None], **written),
        clip=CLIP, score=score(100.0), repetition=2, null_clip=None, null=score(200.0), guesses={},
    )  # fmt: skip
    return Finding(
        attack=BY_NAME["linear-input"], reference=False, grade=Grade.EXACT, severity=SEVERITY, reach=0.5,
        recall=interval(1), bits=interval(2), null_at_chance=True, null_recall=interval(3), null_bits=interval(4),
        results=(result,), retrieval={"pixels": sample(Retrieval)},
    )  # fmt: skip


def test_a_finding_with_its_results_enhancements_diagnosis_and_faces(finding):
    (result,) = finding.results
    enhancement = Enhancement(
        method="m", scale=4, clip=CLIP, score=sample(EnhancedScore), gain_over_bicubic=11.5, null_clip=None,
        null=EnhancedScore(psnr=21.5, ssim=0.25, rank=22, sharpness=0.75), null_gain=12.5,
        added=Added(word="nothing", sentence="s"), seconds=13.5,
    )  # fmt: skip
    diagnosed = Diagnosed(finding=finding, result=result, diagnosis=sample(Diagnosis))
    match = FaceMatch(distance=0.4, same=True, truth_faces=5, faces=6)
    gone = Skipped(stage="score", what="faces", because="out-of-budget", reason="late")
    faces = Identity(probe="walker", found={"reconstruction": match, "null enhanced": gone})
    (block,) = finding_blocks([finding], {id(result): (enhancement,)}, diagnosed, {finding.attack.name: faces})
    written = document(block)
    for name in ("recall", "bits", "null_recall", "null_bits", "retrieval", "grade"):
        assert differences(getattr(finding, name), written[name], name) == []
    assert (written["severity"]["score"], written["severity"]["band"]) == (7.5, "high")
    (one,) = written["results"]
    assert differences(result.score, one["score"]) == differences(result.null, one["null"]) == []
    attempt = Attempt(**{f: getattr(result.reconstruction, f) for f in Attempt.__dataclass_fields__})
    assert differences(attempt, {k: v for k, v in one.items() if k in Attempt.__dataclass_fields__}) == []
    (made,) = one["enhanced"]
    assert differences(enhancement.score, made) == differences(enhancement.null, made["null"]) == []
    assert (made["gain_over_bicubic"], made["null_gain"], made["seconds"], made["scale"]) == (11.5, 12.5, 13.5, 4)
    told = written["diagnosis"]
    assert differences(diagnosed.diagnosis, told) == []
    assert (told["psnr"], told["objective"]) == (100.0, result.reconstruction.objective)
    assert differences(match, written["faces"]["reconstruction"]) == []
    assert written["faces"]["null_enhanced"]["reason"] == "late"
    assert (written["faces"]["threshold"], written["faces"]["false_accept"]) == (0.6, 0.0124)


def test_variants_with_their_differences():
    def variant(name, first, baseline):
        exposed = Exposed(
            all=Exposure(psnr=first + 50, ceiling=0.0, prior=1.0, sigma=0.1),
            layers={},
            modes=1,
            coverage=1.0,
            seconds=0.0,
        )
        return Variant(
            name=name, change="c", action="a", baseline=baseline, exposed=exposed, attack="x", score=score(first),
            grade=Grade.GIST, steps=77,
        )  # fmt: skip

    base, other = map(document, variant_blocks((variant("as audited", 10.0, True), variant("batch", 7.0, False))))
    assert (base["exposure_psnr"], base["psnr"], base["gain"], base["steps"]) == (60.0, 10.0, 16.0, 77)
    assert (base["delta_exposure"], base["delta_gain"]) == (None, None)
    assert (other["exposure_psnr"], other["psnr"], other["gain"]) == (57.0, 7.0, 13.0)
    assert (other["delta_exposure"], other["delta_gain"]) == (-3.0, -3.0)


def test_membership_references_and_a_malicious_server():
    test = MembershipTest(threshold=0.5, rate=0.05, false_positives=interval(9))
    asked = ClipAsked(
        probe="p", weight="w", rank=5, rows=6, complete=True, noise=0.125, test=test,
        asked=(Asked(kind="member", frame=CLIP[0], distance=0.75, called=True),),
    )  # fmt: skip
    found = Membership(
        rate=0.05, batch=3, precision="float32", clips=(asked,), false_positives=interval(5),
        true_positives=interval(6), null=interval(7), clips_found=interval(8), silent="",
    )  # fmt: skip
    written = document(membership_block(found))
    for name in ("rate", "batch", "false_positives", "true_positives", "null", "clips_found"):
        assert differences(getattr(found, name), written[name], name) == []
    (clip,) = written["clips"]
    assert (clip["rank"], clip["rows"], clip["noise"], clip["threshold"]) == (5, 6, 0.125, 0.5)
    assert differences(test.false_positives, clip["calibration"]) == []
    assert clip["frames"][0]["distance"] == 0.75
    copied = Copied(probe="p", frames=2, psnr=19.5, blind=15.5, notes=())
    (copy,) = document(references_block(References(), (copied,), used=True))["copies"]
    assert (copy["frames"], copy["psnr"], copy["blind"]) == (2, 19.5, 15.5)
    manipulated = Manipulation(
        name="n", change="c", batch=4, attack=BY_NAME["linear-input"], share=0.5, honest_share=0.25,
        exact=7, certified=8,
        score=score(30.0), null=score(40.0), honest=score(50.0), rounds=9, steps=11,
    )  # fmt: skip
    (one,) = document(malicious_block(MaliciousServer(audited=(), manipulations=(manipulated,))))["manipulations"]
    assert (one["psnr"], one["gain"], one["null_gain"]) == (30.0, 36.0, 46.0)
    assert (one["honest_psnr"], one["honest_gain"]) == (50.0, 56.0)
    assert (one["share"], one["honest_share"], one["exact"], one["certified"]) == (0.5, 0.25, 7, 8)
    assert (one["batch"], one["rounds"], one["steps"]) == (4, 9, 11)


def test_exposure_and_severity_of_an_audit():
    exposed = Exposed(all=sample(Exposure), layers={}, modes=64, coverage=0.75, seconds=1.0)
    observed = SimpleNamespace(probe=SimpleNamespace(name="p"))
    gathered = SimpleNamespace(exposed=exposed, observed=(observed,), started=datetime.datetime.now(datetime.UTC))
    written = document(audit._exposure(gathered, None))
    assert differences(exposed.all, written["all"]) == []
    assert (written["modes"], written["coverage"], written["sigma"]) == (64, 0.75, exposed.all.sigma)
    severity = document(audit._severity(SEVERITY))
    assert (severity["score"], severity["band"], severity["vector"]) == (7.5, "high", "V")
    values = {name: told["value"] for name, told in severity["inputs"].items()}
    assert values == {"fidelity": 0.8, "preconditions": 0.95, "reach": 0.4}


def test_the_model_its_protocol_its_probes_and_its_layers():
    options = ClientOptions(
        model="m", trainable=("5.*",), algorithm="FedAvg", batch=2, local_epochs=3, local_batch=1, learning_rate=0.25,
        momentum=0.5,
    )  # fmt: skip
    target = target_of(seeded(flat))
    context = trained(target, options, loss_of(options.loss, target))
    probe = shipped_probes(context.input)[0]
    (observed,) = observe_all(context, [probe], [3])
    written = document(model_block(context))
    sizes = {name: p.numel() for name, p in target.parameters.items()}
    sent = {name: n for name, n in sizes.items() if name.startswith("5.")}
    assert 0 < len(sent) < len(sizes)
    counts = (len(sizes), sum(sizes.values()), len(sent), sum(sent.values()))
    assert tuple(written["parameters"][n] for n in ("tensors", "elements", "sent_tensors", "sent_elements")) == counts
    assert differences(context.target.input, written["input"]) == []
    assert differences(context.target.fidelity, written["fidelity"]) == []
    told = document(protocol_block(context, observed, None))
    local = {"local_epochs": 3, "local_batch": 1, "steps": 6, "learning_rate": 0.25, "momentum": 0.5}
    assert (told["local"], told["batch"], told["update"]["gradients"]) == (local, 2, len(sent))
    told = document(probe_block(observed))
    assert (told["shape"], told["native_shape"]) == (list(probe.clip.shape), list(probe.native.shape))
    assert (told["label"], told["sha256"]) == (3, probe.sha256)
    measured = {
        layer.index: Exposure(psnr=layer.index + 20.5, ceiling=layer.index + 40.5, prior=9.5, sigma=0.03)
        for layer in target.layers
    }
    exposed = Exposed(all=sample(Exposure), layers=measured, modes=1, coverage=1.0, seconds=0.0)
    for layer, made in zip(target.layers, layer_blocks(context, exposed, "late"), strict=True):
        block = document(made)
        own = set(layer.parameters) <= set(sent)
        assert (block["index"], block["elements"], block["rows"], block["sent"]) == (
            layer.index, layer.elements, layer.rows, own
        )  # fmt: skip
        if own:
            assert differences(measured[layer.index], block["exposure"]) == []
        else:
            assert (block["exposure"], block["reason"]) == (None, "not sent")


def test_the_numbers_of_a_study():
    own = score(20.0, rank_same_scene=2, same_scene=12)
    written = document(study_score(own, CLIP, None))
    for name in ("psnr", "gain", "motion", "motion_gain", "rank", "gallery", "rank_same_scene", "same_scene"):
        assert differences(getattr(own, name), written[name], name) == []
    assert (written["blind"], written["copy"], written["ssim"]) == (17.0, 15.0, 0.3)
    assert (written["motion_over_copy"], written["bits"]) == (None, pytest.approx(math.log2(29 / 3), abs=1e-4))
    nothing = document(features_block(None, torch.zeros(1, 2), torch.zeros(5, 1, 2), own=True))
    assert (nothing["recovered"], nothing["rank"], nothing["gallery"]) == ("nothing", None, 6)
