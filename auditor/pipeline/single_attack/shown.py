"""What the folder of an attack shows: beside the true clip where there is one, else alone."""

from auditor.pipeline.captured.attack import AttackedCapture
from auditor.pipeline.single_attack.files import Folder
from auditor.pipeline.single_attack.run import Attacked


def beside_the_truth(a: Attacked) -> Folder:
    """Return reconstruction, truth and best blind guess of an attack on a clip that is known."""
    truth, made = a.observed.probe.clip, a.clips[0]
    return Folder(
        clips={"reconstruction": made, "truth": truth},
        rows={"true clip": truth, "reconstruction": made, f"best blind guess ({a.guess_name})": a.guess},
        arrays={
            "reconstruction": a.clips.float().numpy(),
            "truth": a.observed.clips.cpu().float().numpy(),
            "blind": a.guess.cpu().float().numpy(),
        },
    )


def alone(a: AttackedCapture) -> Folder:
    """Return what was reconstructed from a captured update; every clip of a batch is a row of the strip."""
    several = len(a.clips) > 1
    return Folder(
        clips={"reconstruction": a.clips[0]},
        rows={f"reconstruction{f' {i}' if several else ''}": clip for i, clip in enumerate(a.clips, 1)},
        arrays={"reconstruction": a.clips.float().numpy()},
    )
