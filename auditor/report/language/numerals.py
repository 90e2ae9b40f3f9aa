"""Numbers and dates as a language writes them."""

import re
from datetime import datetime

_SWAPPED = str.maketrans({".": ",", ",": "."})
_NUMBER = re.compile(r"(?<![\w.,/:-])[+−-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+(?:e[+-]?\d+)?)(?![\w.]|,\d)")
_MONTHS = {
    "en": ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December"),
    "de": ("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober",
           "November", "Dezember"),
}  # fmt: skip


def digits(number: str, language: str) -> str:
    """Return a number that Python formatted as a language writes it.

    >>> digits("1,843,210.5", "de"), digits("31.2 dB", "en")
    ('1.843.210,5', '31.2 dB')
    """
    return number if language == "en" else number.translate(_SWAPPED)


def digits_within(text: str, language: str) -> str:
    """Return a text with its decimal numbers as a language writes them; versions and names stay.

    >>> digits_within("+6.3 dB, 1,024 of layer3.0 in v0.10.49", "de")
    '+6,3 dB, 1.024 of layer3.0 in v0.10.49'
    """
    return text if language == "en" else _NUMBER.sub(lambda match: digits(match[0], language), text)


def day(moment: datetime, language: str, hour: bool = False) -> str:
    """Return a date in full, with the time in UTC where `hour` is set.

    >>> day(datetime(2026, 3, 5, 9, 7), "de", hour=True), day(datetime(2026, 3, 5), "en")
    ('5. März 2026, 09:07 UTC', '5 March 2026')
    """
    month = _MONTHS[language][moment.month - 1]
    date = f"{moment.day}{'.' if language == 'de' else ''} {month} {moment.year}"
    return f"{date}, {moment:%H:%M} UTC" if hour else date
