"""The words of the report, each kind of outcome in one place."""

from collections.abc import Mapping

VERDICTS: Mapping[str, str] = {
    "FAIL": "leakage demonstrated",
    "WARN": "limited leakage demonstrated",
    "PASS": "no leakage demonstrated under the tested conditions",
    "INCONCLUSIVE": "the audit cannot tell",
}

READINGS: Mapping[str, str] = {
    "FAIL": "This audit recovered private content of a training clip from a model update. Treat updates of this model "
    "as you would treat the clips themselves until the actions below are in place.",
    "WARN": "Updates carry information about the clips they were trained on. The audit did not reach a recognisable "
    "picture; a better attack may.",
    "PASS": "Every attack stayed at the level of a blind guess and the controls behaved as they must. This holds for "
    "the conditions listed here and for no others.",
    "INCONCLUSIVE": "Attacks failed, but the audit cannot rule out that they failed for reasons of their own. Nothing "
    "may be concluded until the causes named here are removed.",
}

GRADES: Mapping[str, str] = {
    "EXACT": "Exact",
    "RECOGNISABLE": "Recognisable",
    "GIST": "Gist",
    "NOT_SHOWN": "Not shown",
}

GRADE_MEANINGS: Mapping[str, str] = {
    "EXACT": "the clip was recovered pixel by pixel, or with a certificate that the attacker can check alone",
    "RECOGNISABLE": "content visible: persons, hands or what else moves can be made out in a frame; far above a blind "
    "guess",
    "GIST": "scene identified: a search in a gallery finds the clip, or payload bits or a label were read, above "
    "chance; nobody can be made out",
    "NOT_SHOWN": "nothing above a blind guess within the budget; this is no proof of absence",
}

BANDS: Mapping[str, str] = {
    "none": "None",
    "low": "Low",
    "medium": "Medium",
    "high": "High",
    "critical": "Critical",
}

CONTROLS: Mapping[str, str] = {
    "positive": "Positive: must succeed, or a failed attack means nothing",
    "own net": "Own net: the clip that this network shows best must be found",
    "null": "Null: the same attack on an unrelated update; must stay at chance",
    "blind": "Blind: what is scored without any update",
    "simulation": "Simulation: the truth must reproduce the update",
}

BECAUSE: Mapping[str, str] = {
    "not-applicable": "not applicable",
    "out-of-budget": "out of budget",
    "out-of-memory": "out of memory",
    "unsupported": "not supported",
    "failed": "failed",
}

DECISIONS: Mapping[str, str] = {
    "supported": "supported",
    "contradicted": "contradicted",
    "undecided": "undecided",
}

REFERENCES: Mapping[str, str] = {
    "R0": "no reference frame",
    "R1": "one reference frame of the scene",
    "Rk": "several reference frames of the scene",
}

ENHANCED = "Enhanced frames show inferred detail, not recovered data."

DEPTHS: Mapping[str, str] = {
    "exact": "exact",
    "completed": "completed by signs",
    "sought": "sought with the clip",
}

FEATURE_MAP = (
    "Not a picture, but an exact inner value: whoever holds it can compute all that the layers above compute of the "
    "clip, tell it from any other clip, and go on searching for the pixels with more time and better priors."
)

SCALED_DOWN = (
    "The audited size was not broken in the time there was. The same network with the same weights reads smaller clips "
    "too, and the same attacks ran on these. It does not replace a verdict on the audited size, where there are more "
    "pixels for as many equations, but no audit passes where it shows a clip."
)

LOOKS = (
    "A perceptual distance is 0 for equal clips and about 1 for two different scenes; it means something only beside "
    "the blind guess and the null. The rank in its own scene is among other moments and views of the same camera. "
    "Grades rest on none of these."
)

CIRCULAR = (
    "The audited model is built on the network that computes these embeddings: attacks work on its features, so that "
    "this search is no independent evidence."
)

FRAMEWORK_NOTE = "Indicates where the evidence may be used; not a legal assessment."

CLASSIFICATION = "Confidential. Holds reconstructed imagery and details of the model; handle as the model itself."

LIMITATIONS: tuple[tuple[str, str], ...] = (
    (
        "Probes are not your data",
        "The clips that were attacked are the probes listed in this report. Private clips that are darker, slower, "
        "emptier or closer to one another can leak more or less. Add clips of your own kind as probes before you "
        "decide on the strength of a number.",
    ),
    (
        "A failed attack proves little",
        "Attacks get better every year and an attacker may spend more than this audit did. The controls show that the "
        "attacks work where a leak is known, not that they are the best possible ones.",
    ),
    (
        "Exposure is linear and local",
        "The exposure of a layer is what a linear attacker with a simple picture prior could know around one probe "
        "clip (a Bayesian Cramer-Rao quantity at a stated noise, in a limited number of modes). A closed form or a "
        "search that follows the curvature of the model may recover more; it is neither a bound nor a prediction for "
        "another clip.",
    ),
    (
        "Weights move",
        "Results hold for the weights in the audited file. A federation passes through many states from fresh to "
        "trained. Audit the first round and a late round.",
    ),
    (
        "The simulation is ours",
        "Updates were computed by this tool from the model file and the protocol given here. Differences to your "
        "clients (augmentation, mixed precision, another optimiser, buffers that are sent along) change what leaks.",
    ),
    (
        "An honest server is assumed",
        "Unless a threat model in this report says otherwise, the server follows the protocol. A server that changes "
        "the model before it is sent out can extract more, and calls for other counter-measures.",
    ),
    (
        "Enhanced frames are guesses",
        "Super-resolution adds detail that a prior finds likely. It can draw a plausible person from noise, which is "
        "why it stands beside the same method applied to an unrelated update. No score uses it as evidence.",
    ),
    (
        "No guarantee",
        "This report states what was tried and what was seen. It certifies nothing, and it does not replace a formal "
        "privacy analysis, a security review or legal advice.",
    ),
)

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("Blind baseline", "the best score reached by a guess that never saw the update, e.g. the mean of a gallery"),
    ("Canary", "a probe clip that carries random bits; bits read back are a leak that needs no eye to judge"),
    ("Certificate", "a number that the attacker can compute alone and that proves a reconstruction right"),
    ("Chance", "what a guess would score; every rate in this report stands beside it"),
    ("Confidence", "how far the audit itself can be trusted: fidelity of the import, seeds, budget, controls"),
    ("Demonstrated", "recovered by an attack in this audit: the lower side of what an update gives away"),
    ("Embedding", "what a public image network makes of frames: a search by it needs no equal pixels"),
    ("Exposed", "predicted by linear analysis at a stated noise, whether or not an attack got it; attacks may "
     "get more"),
    ("Gain", "PSNR of a reconstruction less that of the best blind baseline, in dB"),
    ("Gradient, update", "what a client sends after training on its clips; the clips themselves stay where they are"),
    ("Null control", "the same attack on the update of another clip: shows what the attack invents"),
    ("Perceptual distance", "difference of two clips to an image network: 0 equal, about 1 two different scenes"),
    ("Positive control", "a case that must leak; where it does not, the audit is void"),
    ("Probe", "a clip whose content is known, used in place of private data"),
    ("PSNR", "closeness of two pictures in dB: about 10 to 15 for a guess, 25 for a clear picture, 35 and more for a "
     "copy that the eye takes for the original; inf means identical"),
    ("Recall", "how often the true clip was ranked first among a gallery of candidates"),
    ("Reference frame", "a picture of the same scene that the attacker already holds (R0 none, R1 one)"),
    ("SSIM", "likeness of structure in two pictures: 1 identical, near 0 unrelated"),
    ("Threat model", "who the attacker is and what it holds, lettered after Carletti et al. (USENIX Security 2025)"),
)  # fmt: skip
