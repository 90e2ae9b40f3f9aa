"""What the reader of finished reports looks for, in each language that they are written in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReportWords:
    """The words of one language, as they stand on a page; regular expressions where a sentence holds numbers."""

    grades: tuple[str, str, str, str]
    no_band: str
    not_counted: str
    attack: str
    severity: str
    severity_tag: str
    picture_tile: str
    shares: tuple[str, str, str]
    not_measured: str
    no_baseline: str
    over: str
    to: str
    best_picture: str
    covers: tuple[str, ...]
    effect: str
    control_failed: str
    positive: tuple[str, str]
    demonstrated: str
    exposed: str
    membership: str
    recovered_exactly: str
    shown: tuple[str, ...]
    copy: str
    label: str
    of: str


ENGLISH = ReportWords(
    grades=("Not shown", "Gist", "Recognisable", "Exact"),
    no_band="None",
    not_counted="Does not count.",
    attack="Attack",
    severity=r"Severity ([\d.,]+) of 10, (\w+)",
    severity_tag="Severity",
    picture_tile="Picture recovered",
    shares=("Clip identified", "Payload bits read", "Labels read"),
    not_measured="not measured",
    no_baseline="no baseline",
    over=" over ",
    to=" to ",
    best_picture="best picture ",
    covers=(
        r"Test clip (?P<probe>.+), the strongest reconstruction of this audit: (?P<grade>[a-z ]+)$",
        r"Your own clip (?P<probe>.+), its strongest reconstruction: (?P<grade>[a-z ]+)$",
    ),
    effect=r"attack gain ([+−-]?[\d.]+) dB to ([+−-]?[\d.]+) dB",
    control_failed="A control failed.",
    positive=("Positive:", "Simulation:"),
    demonstrated="demonstrated by the best attack",
    exposed="exposed by the whole update",
    membership="Was this frame in the client's clip?",
    recovered_exactly="Recovered exactly",
    shown=("recovered", "recognisable", "matched", "read", "told"),
    copy="The clip itself",
    label="The label (what the clip is filed as)",
    of=" of ",
)
GERMAN = ReportWords(
    grades=("Nicht gezeigt", "Wiedererkannt", "Erkennbar", "Exakt"),
    no_band="Keiner",
    not_counted="Zählt nicht.",
    attack="Angriff",
    severity=r"Schweregrad ([\d.,]+) von 10, (\w+)",
    severity_tag="Schweregrad",
    picture_tile="Bild rekonstruiert",
    shares=("Clip wiedererkannt", "Verborgene Bits gelesen", "Labels gelesen"),
    not_measured="nicht gemessen",
    no_baseline="kein Vergleichswert",
    over=" über ",
    to=" bis ",
    best_picture="bestes Bild ",
    covers=(
        r"Testclip (?P<probe>.+), die stärkste Rekonstruktion dieses Audits: (?P<grade>[a-z ]+)$",
        r"Ihr eigener Clip (?P<probe>.+), seine stärkste Rekonstruktion: (?P<grade>[a-z ]+)$",
    ),
    effect=r"Gewinn des Angriffs von ([+−-]?[\d,]+) dB auf ([+−-]?[\d,]+) dB",
    control_failed="Eine Kontrolle ist fehlgeschlagen.",
    positive=("Positivkontrolle:", "Simulation:"),
    demonstrated="vom besten Angriff gezeigt",
    exposed="vom gesamten Update preisgegeben",
    membership="War dieses Einzelbild im Clip des Clients?",
    recovered_exactly="Exakt wiederhergestellt",
    shown=("wiederhergestellt", "erkennbar", "zugeordnet", "gelesen", "feststellbar"),
    copy="Der Clip selbst",
    label="Das Label (wie der Clip eingeordnet ist)",
    of=" von ",
)
WORDS = {"en": ENGLISH, "de": GERMAN}
