"""Sentences that results carry, from the values that they tell of: made by a scan, and made again to verify them."""

from auditor.results.scores import Grade

_HEADS = {
    Grade.EXACT: "recovered the client's clip",
    Grade.RECOGNISABLE: "recovered a recognisable clip",
    Grade.GIST: "recovered which clip it was, or bits of it, but no recognisable picture",
    Grade.NOT_SHOWN: "recovered nothing that beats chance",
}
_CONTROLS = {
    True: "the same attack on another clip's update stayed at chance",
    False: "but the same attack on another clip's update did as well: this does not count",
    None: "no null control could be run, so this does not count",
}


def summary_sentence(
    title: str, grade: Grade, psnr: float, probe: str, gain: float, blind: str, null_at_chance: bool | None
) -> str:
    """Say in one sentence what an attack did: its best run on `probe`, in dB, and `gain` over the guess `blind`."""
    numbers = f"best {psnr:.1f} dB on {probe}, {gain:+.1f} dB against the best blind guess ({blind})"
    return f"{title} {_HEADS[grade]}: {numbers}; {_CONTROLS[null_at_chance]}."
