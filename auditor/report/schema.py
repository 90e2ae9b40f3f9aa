"""What results.json must hold (docs/results.md), and the reader that accepts nothing else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.report.shape import (
    MisshapenError,
    count,
    decibel,
    either,
    fields,
    flag,
    many,
    maybe,
    number,
    one_of,
    row,
    scalar,
    table,
    text,
)
from auditor.text import printable

SCHEMA = "fl-audit/results/1"

_WORDS = ("FAIL", "WARN", "PASS", "INCONCLUSIVE")
_GRADES = ("EXACT", "RECOGNISABLE", "GIST", "NOT_SHOWN")
_BANDS = ("none", "low", "medium", "high", "critical")

_grade = one_of(*_GRADES)
_band = one_of(*_BANDS)

_interval = fields(hits=count, trials=count, low=number, high=number, chance=number, method=text)

_exposure = fields(psnr=decibel, ceiling=decibel, prior=decibel, sigma=maybe(number))

_skipped = fields(stage=text, what=text, because=text, reason=text, remedy=maybe(text))

_copy = fields(
    psnr=maybe(decibel),
    gain=maybe(decibel),
    motion_gain=maybe(decibel),
    motion_beyond=maybe(decibel),
    followed=maybe(number),
    pasted=flag,
    bits=maybe(count),
)

_membership = fields(
    {"severity": fields(score=maybe(number), band=_band, vector=text), "precision": text},
    null_at_chance=maybe(flag),
    rate=maybe(number),
    batch=maybe(count),
    false_positives=maybe(_interval),
    true_positives=maybe(_interval),
    null=maybe(_interval),
    clips_found=maybe(_interval),
    rule=text,
    reason=text,
    claims=flag,
    grade=_grade,
    clips=many(
        fields(
            probe=text,
            weight=text,
            rank=count,
            rows=count,
            complete=flag,
            noise=maybe(number),
            threshold=maybe(decibel),
            calibrated=flag,
            calibration=maybe(_interval),
            frames=many(fields(kind=text, distance=maybe(number), claim=maybe(flag), picture=maybe(text))),
        )
    ),
)

_references = fields(
    source=text,
    given=flag,
    frames=maybe(count),
    notes=many(text),
    copies=many(fields(probe=text, frames=count, psnr=maybe(decibel), blind=maybe(decibel))),
)

_score = fields(
    {
        "copy": maybe(_copy),
        "motion_correlation": maybe(decibel),
        "rank_same_scene": maybe(count),
        "same_scene": count,
        "perceptual": maybe(decibel),
        "perceptual_blind": maybe(decibel),
        "lpips": maybe(decibel),
        "lpips_blind": maybe(decibel),
        "embedding_rank": maybe(count),
    },
    psnr=maybe(decibel),
    psnr_best=maybe(decibel),
    psnr_median=maybe(decibel),
    psnr_frames=many(maybe(decibel)),
    ssim_best=maybe(number),
    ssim_median=maybe(number),
    ssim_frames=many(maybe(number)),
    baselines=table(maybe(decibel)),
    gain=maybe(decibel),
    motion=maybe(decibel),
    motion_gain=maybe(decibel),
    rank=maybe(count),
    gallery=maybe(count),
    bits=maybe(_interval),
)

_retrieval = fields(
    gallery=count,
    recall_1=_interval,
    recall_5=_interval,
    mean_rank=number,
    chance_rank=number,
    tail=number,
    independent=flag,
)

_face = fields(distance=maybe(number), same=maybe(flag), truth_faces=maybe(count), faces=maybe(count), reason=text)

_faces = fields(
    {"reconstruction": _face, "enhanced": _face, "null": _face, "null enhanced": _face},
    probe=text,
    threshold=number,
    false_accept=number,
)

_enhanced = fields(
    {
        "sharpness": maybe(number),
        "perceptual": maybe(number),
        "embedding_rank": maybe(count),
        "null_gain": maybe(decibel),
        "added": maybe(fields(word=text, sentence=text)),
        "seconds": maybe(number),
    },
    method=text,
    scale=maybe(number),
    psnr=maybe(decibel),
    ssim=maybe(number),
    gain_over_bicubic=maybe(decibel),
    rank=maybe(count),
    null=maybe(
        fields(
            {"sharpness": maybe(number), "perceptual": maybe(number), "embedding_rank": maybe(count)},
            psnr=maybe(decibel),
            ssim=maybe(number),
            rank=maybe(count),
        )
    ),
)

_strip = maybe(many(maybe(text)))

_pictures = fields(
    {"reference": _strip, "enhanced_null": _strip},
    frames=many(count),
    original=_strip,
    reconstruction=_strip,
    enhanced=_strip,
    baseline=_strip,
    null=_strip,
    enhanced_method=maybe(text),
    baseline_name=maybe(text),
)

_diagnosis = fields(
    {"objective_at_truth": maybe(decibel)},
    probe=text,
    seed=scalar,
    psnr=maybe(decibel),
    objective=maybe(decibel),
    conclusion=fields(code=text, text=text),
    update_at_truth=maybe(decibel),
    labels_right=flag,
    truth_started=maybe(
        fields(
            psnr=maybe(decibel),
            objective=maybe(decibel),
            steps=count,
            seconds=maybe(number),
            course=many(row(number, maybe(decibel))),
        )
    ),
    because=text,
    exposure=maybe(decibel),
)

_result = fields(
    {"curve": many(row(number, maybe(number), maybe(decibel), maybe(decibel)))},
    probe=text,
    seed=scalar,
    outcome=fields(code=text, text=text),
    objective=maybe(decibel),
    trace=many(row(number, maybe(number), maybe(decibel))),
    steps=maybe(count),
    seconds=maybe(number),
    restart_objectives=many(maybe(decibel)),
    certificate=table(maybe(decibel)),
    labels=maybe(many(either(scalar, many(count)))),
    notes=many(text),
    grade=_grade,
    score=maybe(_score),
    null=maybe(_score),
    enhanced=many(_enhanced),
    pictures=maybe(_pictures),
)

_finding = fields(
    {
        "configuration": text,
        "diagnosis": maybe(_diagnosis),
        "counts": flag,
        "reference_frames": count,
        "null_recall": maybe(_interval),
        "null_bits": maybe(_interval),
        "faces": maybe(_faces),
        "retrieval": table(maybe(_retrieval)),
    },
    id=text,
    rule=text,
    attack=text,
    title=text,
    source=text,
    grade=_grade,
    severity=fields(score=maybe(number), band=_band, vector=text),
    threat_model=text,
    reference=text,
    assumes=many(text),
    summary=text,
    null_at_chance=maybe(flag),
    recall=maybe(_interval),
    bits=maybe(_interval),
    results=many(_result),
)

_layer = fields(
    index=count,
    name=text,
    kind=text,
    parameters=many(text),
    elements=count,
    sent=flag,
    rows=maybe(count),
    input_shape=maybe(many(count)),
    output_shape=maybe(many(count)),
    exposure=maybe(_exposure),
    flags=many(text),
    reason=maybe(text),
)

_what_if = fields(
    name=text,
    change=text,
    baseline=flag,
    exposure_psnr=maybe(decibel),
    delta_exposure=maybe(decibel),
    attack=maybe(text),
    psnr=maybe(decibel),
    gain=maybe(decibel),
    grade=maybe(_grade),
    delta_gain=maybe(decibel),
    steps=maybe(count),
    skipped=maybe(_skipped),
)

_check = fields(name=text, passed=maybe(flag), measured=text, threshold=text, why=text, where=text)

_manipulation = fields(
    name=text,
    change=text,
    attack=text,
    source=text,
    batch=count,
    rounds=count,
    steps=count,
    exact=maybe(count),
    certified=maybe(count),
    share=maybe(number),
    honest_share=maybe(number),
    psnr=maybe(decibel),
    gain=maybe(decibel),
    grade=maybe(_grade),
    null_gain=maybe(decibel),
    null_at_chance=maybe(flag),
    honest_psnr=maybe(decibel),
    honest_gain=maybe(decibel),
    detected=maybe(flag),
    answer=text,
    checks=many(_check),
    skipped=maybe(_skipped),
)

_malicious_server = fields(
    threat_model=fields(id=text, title=text), note=text, audited=many(_check), manipulations=many(_manipulation)
)

_fidelity = fields(
    {
        "origin": text,
        "semantics": text,
        "batchnorm_evidence": text,
        "parity": table(maybe(number)),
        "missing": many(text),
        "reexport": text,
    },
    parity_max_error=maybe(number),
    gradient_check=maybe(number),
    double_backward=maybe(flag),
    batchnorm=text,
    batch=text,
    upper_bound=flag,
    notes=many(text),
)

_part = fields(
    role=one_of("extractor", "head"),
    name=text,
    source=text,
    format=text,
    sha256=text,
    trained=flag,
    tensors=count,
    elements=count,
    fidelity=_fidelity,
)

_option = either(scalar, many(scalar))

_document = fields(
    {"malicious_server": maybe(_malicious_server), "references": maybe(_references), "membership": maybe(_membership)},
    schema=one_of(SCHEMA),
    tool=fields(
        {"options": table(_option)},
        name=text,
        version=text,
        audit_id=text,
        started=text,
        seconds=maybe(number),
        preset=maybe(text),
        seed=scalar,
        command=many(text),
        max_time=maybe(number),
    ),
    model=fields(
        {"parts": many(_part)},
        name=text,
        source=text,
        format=text,
        sha256=text,
        classes=maybe(count),
        input=fields(
            frames=count,
            channels=count,
            height=count,
            width=count,
            layout=text,
            mean=many(number),
            std=many(number),
            value_range=row(number, number),
            origin=text,
        ),
        parameters=fields(tensors=count, elements=count, sent_tensors=count, sent_elements=count),
        operators=table(count),
        fidelity=_fidelity,
    ),
    protocol=fields(
        {
            "frozen": count,
            "dropout": text,
            "local": maybe(fields(epochs=count, batch=count, steps=count, rate=number, momentum=number)),
            "output": fields(name=text, frames=count, activation=text, pool=maybe(text)),
            "update": fields(gradients=count, buffers=many(text)),
        },
        algorithm=text,
        batch=count,
        loss=text,
        labels=text,
        batchnorm=text,
        trainable=many(text),
        threat_model=fields(id=text, title=text, assumes=many(text), out_of_scope=many(text)),
    ),
    probes=many(
        fields(
            name=text,
            kind=text,
            sha256=text,
            shape=many(count),
            native_shape=maybe(many(count)),
            source=text,
            licence=maybe(text),
            label=either(scalar, many(count)),
        )
    ),
    controls=many(
        fields(
            name=text,
            kind=text,
            passed=maybe(flag),
            measured=scalar,
            expected=scalar,
            why=text,
            attack=maybe(text),
        )
    ),
    findings=many(_finding),
    labels=fields(rule=maybe(text), interval=maybe(_interval), grade=maybe(_grade), reason=maybe(text)),
    exposure=fields(
        all=maybe(_exposure),
        modes=maybe(count),
        coverage=maybe(number),
        sigma=maybe(number),
        reason=maybe(text),
        rank_correlation=maybe(number),
        probe=maybe(text),
    ),
    layers=many(_layer),
    what_if=many(_what_if),
    skipped=many(_skipped),
    verdict=fields(
        word=one_of(*_WORDS),
        sentence=text,
        reasons=many(text),
        gate=fields(fail_on=text, passed=maybe(flag)),
        exit_code=count,
    ),
    severity=fields(
        score=maybe(number),
        band=_band,
        vector=text,
        formula=text,
        inputs=table(fields(value=scalar, meaning=text)),
    ),
    confidence=fields(level=one_of("high", "medium", "low"), reasons=many(text)),
    actions=many(fields(text=text, effect=maybe(text))),
    environment=table(scalar),
)


def validate(results: Mapping[str, Any], name: str = "the results") -> None:
    """Raise UsageError, in one line, unless `results` has the shape that docs/results.md gives."""
    schema = results.get("schema") if isinstance(results, dict) else None
    if schema != SCHEMA:
        raise UsageError(
            f"{printable(name)} is not of schema {SCHEMA} (found {printable(str(schema), 60)})",
            "give a results.json that this version of fl-audit wrote",
        )
    try:
        _document(results, "")
    except MisshapenError as error:
        raise UsageError(
            f"{printable(name)}: {error}", "run the scan again: the file is not as it was written"
        ) from None


def read_results(path: Path | str) -> dict[str, Any]:
    """Read a results.json and return its content, checked down to the last value that a report shows.

    Raises
    ------
    UsageError
        The file is missing, not JSON, of another schema, or lacks something.
    """
    name = str(path)
    try:
        results = json.loads(Path(path).read_bytes(), parse_constant=_refuse)
    except OSError as error:
        raise UsageError(
            f"cannot read {printable(name)} ({error.strerror or type(error).__name__})",
            "give the path of a results.json",
        ) from None
    except (ValueError, RecursionError):
        raise UsageError(f"{printable(name)} is not JSON", "give the results.json that a scan wrote") from None
    validate(results, name)
    return dict(results)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
