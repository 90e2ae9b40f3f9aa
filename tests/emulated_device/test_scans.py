"""Whole scans on another device give the results of the CPU."""

import dataclasses
from pathlib import Path

import pytest
from short_scans import results_of, short

import emulated_device
from auditor.pipeline import ScanOptions

NETS = Path(__file__).parent / "nets.py"
SHORT = dataclasses.replace(short(60, probes=2), diagnose=True)
CLIPS = ScanOptions(model="", input_shape=(3, 4, 16, 16), preset="fast")
PARTS = {"extractor": f"{NETS}:shades", "head": f"{NETS}:recurrent"}
TRAINING = {"send_buffers": True, "dropout": "on", "bn": "train"}
SCANS = {
    "BatchNorm and dropout, what-if, a malicious server": dataclasses.replace(
        CLIPS, model=f"{NETS}:pooled", what_if=True, malicious_server=True, faces=False
    ),
    "tokens": dataclasses.replace(CLIPS, model=f"{NETS}:tokens"),
    "a recurrent head behind an extractor": dataclasses.replace(CLIPS, input_shape=None, layout="NCHW", **PARTS),
    "local steps on two clips, dropout, buffers": dataclasses.replace(
        CLIPS,
        model=f"{NETS}:pooled",
        algorithm="FedAvg",
        local_epochs=2,
        send_buffers=True,
        batch=2,
        dropout="on",
        bn="train",
    ),
}
WITHIN_DB = 0.1


def told(results) -> dict[str, object]:
    """What an audit says, by where it stands; times aside."""
    found: dict[str, object] = {"verdict": results["verdict"]["word"]}
    for f in results["findings"]:
        for r in f["results"]:
            found[f"{f['attack']} {f['reference']} {r['probe']}"] = r["score"]["psnr"]
            found |= {f"{f['attack']} {r['probe']} {e['method']}": e["psnr"] for e in r["enhanced"]}
        found[f"{f['attack']} {f['reference']} grade"] = f["grade"]
    found |= {f"layer {layer['index']}": (layer["exposure"] or {}).get("psnr") for layer in results["layers"]}
    found |= {f"{c['kind']} {c['name']}": c["passed"] for c in results["controls"]}
    found |= {f"not run: {s['stage']} {s['what']}": s["because"] for s in results["skipped"]}
    found |= {f"what if {v['name']}": v["gain"] for v in results["what_if"] or ()}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("device", emulated_device.DEVICES)
@pytest.mark.parametrize("kind", SCANS)
def test_a_scan_gives_the_results_of_the_cpu(kind, device):
    here, there = (
        told(results_of(dataclasses.replace(SCANS[kind], device=each), SHORT, 1, controls_anew=True))
        for each in ("cpu", device)
    )
    assert there.keys() == here.keys()
    assert not [name for name in here if name.startswith("not run") and here[name] == "failed"]
    for name, value in here.items():
        if isinstance(value, float):
            assert there[name] == pytest.approx(value, abs=WITHIN_DB), name
        else:
            assert there[name] == value, name
    assert any(isinstance(value, float) for value in here.values())
