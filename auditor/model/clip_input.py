"""How clips enter a model: axis order, size and normalisation, deduced where the file leaves no doubt."""

from typing import get_args

from auditor.errors import UsageError
from auditor.records import InputSpec, Layout

AXES: dict[Layout, str] = {"NCTHW": "CTHW", "NTCHW": "TCHW", "NTHWC": "THWC", "NCHW": "CHW", "NHWC": "HWC"}
COLOUR = (3, 1)
NARROWEST = 5
OBLONG = 1.5
# Of Kinect (20, 25), OpenPose (18, 25), COCO (17), hands (21) and MediaPipe (33).
JOINTS = frozenset({17, 18, 20, 21, 25, 33})


def deduced_layout(shape: tuple[int, ...]) -> Layout:
    """Return the axis order of one clip's shape (without batch) from the only axis that can hold colour.

    >>> deduced_layout((3, 8, 32, 32)), deduced_layout((8, 3, 32, 32)), deduced_layout((32, 32, 3))
    ('NCTHW', 'NTCHW', 'NHWC')

    Raises
    ------
    UsageError
        No axis or more than one fits.
    """
    if len(shape) not in (3, 4):
        raise UsageError(
            f"the model reads inputs of shape {shape}, which is neither a clip nor a frame",
            "give --input-shape with 4 axes (a clip) or 3 (a frame), or a module around the model that takes one clip, "
            "see Several inputs in docs/pytorch.md",
        )
    candidates = [layout for layout, axes in AXES.items() if len(axes) == len(shape)]
    for channels in COLOUR:
        fitting = [layout for layout in candidates if shape[AXES[layout].index("C")] == channels]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            break
    remedy = f"give --layout ({', '.join(map(str, candidates))})"
    if len(shape) == 3 and any(shape[axis] > max(COLOUR) and shape[axis] % 3 == 0 for axis in (0, 2)):
        remedy += (
            "; frames stacked in the channels need a module around the model, see Several inputs in docs/pytorch.md"
        )
    raise UsageError(f"the axis order of input shape {shape} is not certain", remedy)


def input_spec(
    shape: tuple[int, ...],
    *,
    layout: Layout | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    value_range: tuple[float, float] | None,
    origin: str,
) -> InputSpec:
    """Describe the input of a model that reads one clip of `shape` (without batch).

    A shape of four axes with a layout of frames (NCHW, NHWC) sends every frame through the model by itself.

    Raises
    ------
    UsageError
        The layout does not fit the shape, or a normalisation does not fit the channels.
    """
    if layout is None:
        layout = deduced_layout(shape)
    if layout not in get_args(Layout):
        raise UsageError(f"unknown layout {layout!r}", f"use one of {', '.join(get_args(Layout))}")
    axes = AXES[layout]
    frames_as_batch = len(axes) == 3 and len(shape) == 4
    if frames_as_batch:
        axes = "T" + axes
    if len(axes) != len(shape):
        raise UsageError(f"layout {layout} does not fit input shape {shape}", "give --layout or --input-shape")
    extent = dict(zip(axes, shape, strict=True))
    for values, option in ((mean, "--mean"), (std, "--std")):
        if values is not None and len(values) not in (1, extent["C"]):
            raise UsageError(
                f"{option} has {len(values)} values for {extent['C']} channels", "give one value or one a channel"
            )
    if std is not None and not all(value > 0 for value in std):
        raise UsageError("--std has a value that is not positive", "give the standard deviations used in training")
    if value_range is not None and value_range[0] >= value_range[1]:
        raise UsageError(f"--range {value_range[0]:g},{value_range[1]:g} is empty", "give the lowest value first")
    return InputSpec(
        frames=extent.get("T", 1),
        channels=extent["C"],
        height=extent["H"],
        width=extent["W"],
        layout=layout,
        mean=mean or (0.0,),
        std=std or (1.0,),
        value_range=value_range or (0.0, 1.0),
        origin=origin,
    )


def without_batch(shape: tuple[int, ...], rank: int | None) -> tuple[int, ...]:
    """Drop the batch axis of a shape the user gave, if it has one.

    `rank` is how many axes the model itself fixes without the batch; None when it fixes nothing.

    Raises
    ------
    UsageError
        An extent is not positive.
    """
    if any(extent < 1 for extent in shape):
        raise UsageError(f"--input-shape {shape} has an extent below 1", "give the size of one clip")
    if rank is None:
        return shape[1:] if len(shape) == 5 else shape
    return shape[1:] if len(shape) == rank + 1 else shape


def questions(spec: InputSpec) -> list[str]:
    """Return what to ask about an input that has the axes of frames but hardly holds pictures.

    >>> from dataclasses import replace
    >>> spec = input_spec((3, 30, 18, 2), layout=None, mean=None, std=None, value_range=None, origin="")
    >>> [text[:28] for text in questions(spec)], questions(replace(spec, height=32, width=32))
    (['Frames of 18 x 2 pixels are '], [])
    """
    short, long = sorted((spec.height, spec.width))
    joints = spec.frames == 1 and short != long and not JOINTS.isdisjoint((short, long)) and short <= max(JOINTS)
    if short < NARROWEST or joints:
        return [
            f"Frames of {spec.height} x {spec.width} pixels are hardly pictures: if the input holds joints of a "
            "skeleton, boxes or signals, pictures and their scores mean nothing here."
        ]
    if spec.frames == spec.channels == 1 and long >= OBLONG * short:
        return [
            f"One frame of {spec.height} x {spec.width} in one channel may be a spectrogram: pictures and their scores "
            "mean nothing for sound."
        ]
    return []


def single_picture(spec: InputSpec) -> list[str]:
    """Return what to say of a model that reads one frame, as models of pictures do; nothing for models of clips."""
    if spec.frames > 1:
        return []
    return [
        "The model reads single pictures: a clip of one frame is audited. If clients send clips through it frame by "
        "frame, give --input-shape with the frames of a clip first."
    ]


def model_shape(spec: InputSpec) -> tuple[int, ...]:
    """Return the shape of one clip in the model's own axis order, without batch."""
    extent = {"T": spec.frames, "C": spec.channels, "H": spec.height, "W": spec.width}
    return tuple(extent[axis] for axis in AXES[spec.layout])
