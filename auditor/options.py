"""Every option, declared once: the command line, study files, Python, results and docs/options.md come from here.

`python -m auditor.options` prints the table of docs/options.md. Nothing here needs torch.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from auditor import terms
from auditor.comparison.options import ComparedModels, ComparisonFiles
from auditor.declaring import REQUIRED, changed, declaration, option, plain_values
from auditor.document_options import DocumentOptions
from auditor.filter_options import FilterFiles, FilterOptions
from auditor.gate_options import GATE_COMMANDS, ConfigurationOptions, GateOptions
from auditor.output_options import (
    AttackFiles,
    CleanOptions,
    DefendFiles,
    InspectFiles,
    JobsOption,
    ListOptions,
    MergedShards,
    PlanOptions,
    ReportOptions,
    ScanFiles,
    SchemaOptions,
    WorkOptions,
)
from auditor.terms import AUDIT, CLIENT, EXPERIMENT, MODEL, OUTPUT, PARTS, SEARCH, STUDY
from auditor.update_options import CapturedUpdate, ReplayedClip
from auditor.values import (
    Choice,
    Count,
    Duration,
    FilePath,
    FrameSource,
    Listed,
    Number,
    Numbers,
    Pairs,
    Shape,
    Switch,
    Text,
    Whole,
    one_of,
)
from auditor.verification.verify_options import SigningOptions, VerifyOptions

_model = partial(option, panel=MODEL, study=True)
_part = partial(option, panel=PARTS, study=True)
_client = partial(option, panel=CLIENT, study=True)
_audit = partial(option, panel=AUDIT)
_attack = partial(option, panel=EXPERIMENT)
_search = partial(option, panel=SEARCH)
_study = partial(option, panel=STUDY)
_output = partial(option, panel=OUTPUT)
_SOURCES = (
    "model.onnx, path/file.py:factory, package.module:factory, torchvision:NAME, timm:NAME, hf:FOLDER, or "
    "pretrained:efficientnet-lite0"
)
_EPOCHS, _RATE = 5, 0.01


@declaration
class ReadOptions:
    """How a model is read, where its file does not say."""

    weights: Path | None = option(
        None, FilePath(), "Weights for a PyTorch model: .safetensors or a state dict.", panel=MODEL
    )
    input_shape: tuple[int, ...] | None = _model(
        None, Shape(), "Sizes of one clip in the model's own axis order, e.g. 3,8,32,32."
    )
    layout: terms.Layout | None = _model(None, one_of(terms.Layout), "Order of the axes, if it cannot be read.")
    classes: int | None = _model(None, Whole(1), "Number of classes, if it cannot be read.")
    mean: tuple[float, ...] | None = _model(
        None, Numbers(), "Channel means that the input is normalised by, e.g. 0.45,0.45,0.45."
    )
    std: tuple[float, ...] | None = _model(None, Numbers(), "Channel standard deviations.")
    range: tuple[float, float] | None = _model(
        None, Numbers(2), "Pixel values that the model reads, e.g. 0,255.", former=("value_range",)
    )
    temporal_pool: terms.TemporalPool | None = _model(
        None, one_of(terms.TemporalPool), "Logits of a clip from those of its frames."
    )
    model_output: str | None = _model(
        None,
        Text("NAME|INDEX", numbers=True),
        "Output that the loss reads, if the model returns several.",
        former=("output",),
    )
    arg: tuple[tuple[str, Any], ...] = _model(
        (), Pairs(), "Argument of the factory or architecture, e.g. depth=4; repeatable.", former=("arguments",)
    )
    trust_model: bool = option(
        False, Switch(), "Read .pt2, TorchScript and pickled modules, which run code.", panel=MODEL
    )
    seed: int = _audit(0, Whole(0, 2**32 - 1), "Seed of everything random.")

    def reading(self) -> dict[str, Any]:
        """Return how a model is to be read, by the names of `model.reading_options.LoadOptions`."""
        return {f.name: getattr(self, f.name) for f in fields(ReadOptions) if f.name != "weights"}


@declaration
class ModelOptions(ReadOptions):
    """Which model, or which two parts of one, and where it runs."""

    model: str = _model("", Text(), f"{_SOURCES}; or leave it out and give --extractor and --head", argument=True)
    onnx_ops: tuple[Path, ...] = option(
        (),
        Listed(FilePath()),
        "Python file that adds operators to ONNX, see docs/operators.md; executed; repeatable.",
        panel=MODEL,
    )
    extractor: str | None = _part(
        None, Text("SOURCE"), "Frozen, public feature extractor of a two-part model: any source that MODEL takes."
    )
    head: str | None = _part(None, Text("SOURCE"), "Head that clients train on its features: any source.")
    extractor_weights: Path | None = _part(None, FilePath(), "Weights for a PyTorch extractor.")
    head_weights: Path | None = _part(None, FilePath(), "Weights for a PyTorch head.")
    join: terms.Join | None = _part(None, one_of(terms.Join), "How features enter the head, if it is not certain.")
    device: str = _audit("auto", Text("DEVICE"), "auto, cpu, cuda, cuda:1.")


@declaration
class ClientOptions(ModelOptions):
    """A model, and how clients train it: what scan, attack, inspect and a study's [[model]] share.

    Without `trainable` everything is trained but what the model itself freezes. `local_epochs`, `local_batch` (0: all
    clips), `learning_rate` and `momentum` are those of FedAvg; FedSGD does not use them.
    """

    trainable: tuple[str, ...] = _client(
        (), Listed(Text("GLOB")), "Parameters or layers that clients train and send; repeatable."
    )
    batch: int = _client(1, Whole(1, 64), "Clips per update.")
    labels: terms.LabelsInBatch = _client("distinct", one_of(terms.LabelsInBatch), "Labels within a batch.")
    bn: terms.BatchNormMode = _client(
        "eval", one_of(terms.BatchNormMode), "Mode of BatchNorm at the client.", former=("batchnorm",)
    )
    loss: str = _client(
        "cross-entropy",
        Text("LOSS"),
        "Loss that clients minimise: cross-entropy, bce, mse, or path/file.py:name (executed).",
    )
    dropout: terms.DropoutMode = _client(
        "off", one_of(terms.DropoutMode), "Dropout at the client; on draws masks of its own."
    )
    send_buffers: bool = _client(
        False,
        Switch(),
        "BatchNorm running statistics travel with the update (FedAvg); needs --bn train.",
        flags=("--send-buffers/--no-send-buffers",),
    )
    algorithm: terms.Algorithm = _client(
        "FedSGD",
        Choice({"fedsgd": "FedSGD", "fedavg": "FedAvg"}),
        "What travels: one gradient, or the change of the weights after local training.",
    )
    local_epochs: int = _client(_EPOCHS, Whole(1, 1000), "With fedavg: times that a client goes through its clips.")
    local_batch: int = _client(0, Whole(0), "With fedavg: clips of one local step; 0 takes all.")
    learning_rate: float = _client(
        _RATE, Number(above=True, example=str(_RATE)), "With fedavg: step size of local SGD.", former=("rate",)
    )
    momentum: float = _client(0.0, Number(below=1.0, example="0.9"), "With fedavg: momentum of local SGD.")
    defence: tuple[str, ...] = _client(
        (),
        Listed(Text("SPEC")),
        "What is done to an update before it is seen, in this order, e.g. clip:1; repeatable; see docs/defences.md.",
    )
    dp_claim: str | None = _client(
        None, Text("CLAIM"), "Privacy claimed: epsilon=10,delta=1e-5,rounds=50,sampling=0.01,clients=100."
    )
    command: tuple[str, ...] = ()

    def as_json(self) -> Mapping[str, Any]:
        """Return the options as plain values by their names, paths as given; what does not apply is None."""
        idle = LOCAL if self.algorithm == "FedSGD" else ()
        return {name: None if name in idle else value for name, value in plain_values(self).items()}


@declaration
class ScanOptions(ClientOptions):
    """Every choice that a scan depends on; the same options and seed give the same audit, however busy the machine is.

    `max_time` in seconds is the budget of work, counted in seconds of a reference machine, and a limit by the clock for
    everything from loading to the last score: what would end later is left out whole. None takes the preset's budget
    and sets no limit. `reference` is as `references_from` reads it.
    """

    probes: tuple[Path, ...] = _audit(
        (),
        Listed(FilePath(metavar="CLIP", remedy="a video, a folder or an .npz")),
        "Your own clips: video, folder of frames, .npz, or a folder of these; repeatable.",
    )
    reference: tuple[str, ...] = _audit(
        (),
        Listed(FrameSource()),
        "Frames of the scene for attackers who hold some: a picture, a folder of frames or a clip; repeatable. Or "
        "first:K, the first K frames of the attacked clip.",
        default_words="first:1, and first:3 for attacks with several",
        former=("references",),
    )
    lpips: Path | None = _audit(
        None,
        FilePath(),
        "Weights of LPIPS with AlexNet, as the lpips package saves them: scores are measured by it too.",
    )
    faces: bool = _audit(
        False,
        Switch(),
        "Is a person recognised? Needs the extra fl-audit[faces], and clips with faces of 20 pixels or more.",
    )
    replay: Path | None = _audit(
        None,
        FilePath(remedy="what fl-audit replay --json printed"),
        "Whether a real client sends what is simulated, as `fl-audit replay --json` printed it: enters confidence.",
    )
    preset: terms.PresetName = _audit("fast", one_of(terms.PresetName), "How much an audit tries.")
    what_if: bool | None = _audit(
        None,
        Switch(),
        "Measure changes of batch, trained part and BatchNorm.",
        flags=("--what-if/--no-what-if",),
        default_words="in standard and deep",
    )
    layers: int | None = _audit(
        None,
        Count(),
        "Layers that are attacked one by one, and left out one by one, most promising first.",
        default_words="what fits in standard and deep with what-if, else 0",
    )
    malicious_server: bool | None = _audit(
        None,
        Switch(),
        "What if the server manipulated the model? Never counts in the verdict.",
        flags=("--malicious-server/--no-malicious-server",),
        default_words="as --what-if, in standard and deep",
        former=("malicious",),
    )
    sr: tuple[Path, ...] = _audit(
        (),
        Listed(FilePath()),
        "Super-resolution network (.pth, .safetensors, .onnx) to enhance reconstructions with; repeatable.",
    )
    max_time: float | None = _audit(
        None, Duration(), "Budget of work and limit by the clock, e.g. 90s, 5m, 1h.", default_words="the preset's"
    )
    fail_on: terms.FailOn = _audit("high", one_of(terms.FailOn), "Lowest severity that fails the gate.")


@declaration
class AttackOptions(ClientOptions):
    """One attack on one clip.

    `max_time` is a budget of work, counted in seconds of a reference machine, for the attack alone. `label` is drawn
    from the clip's name, as a scan does, when None. Without `known_label` labels are restored where a rule is
    certain, else known. `steps` and `restarts` replace the attack's own.
    """

    attack: str = _attack("gradient-matching", Text("NAME"), "Attack, by its name in `fl-audit list attacks`.")
    clip: str = _attack(
        "park_walker",
        Text("CLIP"),
        "Your own clip (video, folder of frames, .npz, .npy), a shipped one by name, or canary.",
    )
    max_time: float = _attack(60.0, Duration(), "Work for the attack, in seconds of a reference machine.")
    steps: int | None = _attack(None, Whole(1), "Most steps of one descent.", default_words="3000")
    restarts: int | None = _attack(
        None, Whole(1, 64), "Descents from different seeds.", default_words="the attack's own"
    )
    label: str | None = _attack(
        None, Text("LABEL", numbers=True), "Class of the clip, several as 1,4, or its value.", default_words="drawn"
    )
    known_label: bool | None = _attack(
        None,
        Switch(),
        "The attacker knows the label, or restores it.",
        flags=("--known-label/--restored-label",),
        default_words="restores it where that is certain",
        former=("label_known",),
    )
    reference: tuple[str, ...] = changed(ScanOptions, "reference", (), "first:1, and first:3 for attacks with several")
    diagnose: bool = _attack(
        False,
        Switch(),
        "Also start the search at the true clip and measure exposure, to tell why the attack fell short.",
    )


@declaration
class DefendOptions(ClientOptions):
    """A model, and the kinds of defence of which the weakest setting is sought that hides what attacks find.

    `max_time` is a budget of work, counted in seconds of a reference machine. `utility` is `path/file.py:name`.
    """

    defence: tuple[str, ...] = option(
        (),
        Listed(Text("NAME|SPEC")),
        "Kind of defence that is searched, e.g. gaussian, or a whole setting that is judged, e.g. "
        "clip:1+gaussian:0.01; repeatable; see docs/defences.md.",
        panel=CLIENT,
        default_words="every generic kind",
    )
    probes: tuple[Path, ...] = changed(ScanOptions, "probes", ())
    preset: terms.PresetName = changed(ScanOptions, "preset", "fast")
    until: terms.Until = _search(
        "picture", one_of(terms.Until), "What has to be gone: recognisable pictures, or also whose clip it is."
    )
    utility: str | None = _search(
        None,
        Text("FILE.py:NAME"),
        "Function of a defence that returns a number which grows with the utility; executed.",
        default_words="accuracy after a short training on shipped clips",
    )
    max_time: float = _search(1800.0, Duration(), "Work for the search, in seconds of a reference machine.")


@declaration
class InspectOptions(ClientOptions):
    """A model that is only looked at; without `loss` it is guessed from the output."""

    loss: str = changed(ClientOptions, "loss", "", "guessed from the output")
    device: str = changed(ClientOptions, "device", "cpu")


@declaration
class ExportOptions(ReadOptions):
    """A PyTorch model that is written as ONNX."""

    source: str = option(REQUIRED, Text(), "path/file.py:factory, or torchvision:NAME", panel=MODEL, argument=True)
    output: Path = _output(REQUIRED, FilePath(), "ONNX file to write.", flags=("--output", "-o"))
    opset: int | None = _output(None, Whole(11, 23), "Version of the ONNX operators.", default_words="20")
    force: bool = _output(False, Switch(), "Replace the file if it exists.")


@declaration
class StudyOptions:
    """How a study is run. `jobs` are processes at a time, one thread each; None is one a core."""

    preset: terms.PresetName = _study(
        "fast", one_of(terms.PresetName), "How much it tries, as far as the file describes it."
    )
    jobs: int | None = _study(None, Whole(1, 256), "Processes at a time.", default_words="one a core")
    max_time: float | None = _study(
        None, Duration(), "Begin nothing after this time, e.g. 40m; run again to go on.", default_words="no limit"
    )
    device: str = changed(ModelOptions, "device", "auto")
    language: terms.Language | None = changed(DocumentOptions, "language", None, "en")
    out: Path = _output(
        Path("fl-audit-study"), FilePath("DIR"), "Results, report, tables, figures, and what is finished so far."
    )
    command: tuple[str, ...] = ()


@declaration
class StudyFile:
    """Which study, and whether it runs."""

    file: Path = _study(REQUIRED, FilePath("FILE.toml"), "Study file, such as examples/rasul2025.toml", argument=True)
    plan: bool = _study(False, Switch(), "Show what would run, and run nothing.")


_REPORTED = (GateOptions, DocumentOptions, ScanFiles, WorkOptions, SigningOptions, ConfigurationOptions)
# What each command takes, in the order of its help.
COMMANDS: Mapping[str, tuple[type, ...]] = {
    "scan": (ScanOptions, *_REPORTED),
    "attack": (AttackOptions, CapturedUpdate, AttackFiles, ConfigurationOptions),
    "defend": (DefendOptions, DefendFiles),
    "replay": (ClientOptions, CapturedUpdate, ReplayedClip, ConfigurationOptions),
    "plan": (ScanOptions, PlanOptions, ConfigurationOptions),
    "merge": (MergedShards, *_REPORTED),
    "compare": (ScanOptions, ComparedModels, JobsOption, ComparisonFiles, ConfigurationOptions),
    "study": (StudyFile, StudyOptions),
    "inspect": (InspectOptions, InspectFiles, ConfigurationOptions),
    "filter": (FilterOptions, FilterFiles),
    "export": (ExportOptions,),
    "report": (ReportOptions, DocumentOptions, SigningOptions, ConfigurationOptions),
    "list": (ListOptions,),
    "schema": (SchemaOptions,),
    "clean": (CleanOptions,),
    "verify": (VerifyOptions,),
    **GATE_COMMANDS,
}
# What describes local training.
LOCAL = ("local_epochs", "local_batch", "learning_rate", "momentum")


if __name__ == "__main__":
    import sys

    from auditor.options_docs import keywords, table

    sys.stdout.write(keywords() if sys.argv[1:] == ["keywords"] else table())
