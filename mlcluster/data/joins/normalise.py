"""Spellings of one key made one: by unicode form, case, punctuation, spaces and abbreviations, in that order."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from mlcluster.spec import Normalisation

# The common street suffixes and directions of USPS Publication 28 (appendices B and C1), and legal forms of firms.
ABBREVIATIONS: Mapping[str, str] = {
    "st": "street",
    "str": "street",
    "ave": "avenue",
    "av": "avenue",
    "rd": "road",
    "blvd": "boulevard",
    "dr": "drive",
    "ln": "lane",
    "ct": "court",
    "pl": "place",
    "sq": "square",
    "ter": "terrace",
    "pkwy": "parkway",
    "hwy": "highway",
    "cir": "circle",
    "apt": "apartment",
    "ste": "suite",
    "bldg": "building",
    "fl": "floor",
    "no": "number",
    "n": "north",
    "s": "south",
    "e": "east",
    "w": "west",
    "ne": "northeast",
    "nw": "northwest",
    "se": "southeast",
    "sw": "southwest",
    "inc": "incorporated",
    "corp": "corporation",
    "co": "company",
    "ltd": "limited",
    "dept": "department",
    "univ": "university",
    "intl": "international",
    "&": "and",
}
# Within a word these part nothing: O'Brien is OBrien, and U.S. is US.
_WITHIN_WORDS = re.compile(r"['’ʼ`.]")  # noqa: RUF001 - the apostrophes that people type
_BETWEEN_WORDS = re.compile(r"[^\w\s&]|_")
_SPACES = re.compile(r"\s+")


def normalised(
    texts: Sequence[str], steps: Sequence[Normalisation], abbreviations: Mapping[str, str] | None = None
) -> list[str]:
    """Each text after `steps`, which are done in the order given; `abbreviations` come on top of the built-in ones."""
    known = {**ABBREVIATIONS, **{_bare(short): word for short, word in (abbreviations or {}).items()}}
    functions: dict[Normalisation, Callable[[str], str]] = {
        "unicode": _without_marks,
        "case": str.casefold,
        "punctuation": _without_punctuation,
        "whitespace": _with_single_spaces,
        "abbreviations": lambda text: " ".join(known.get(_bare(word), word) for word in text.split(" ")),
    }
    done = list(texts)
    for step in steps:
        done = [functions[step](text) for text in done]
    return done


def _without_marks(text: str) -> str:
    """Compatibility form without accents: `café` is `cafe`, wide letters are plain; `ø` is no accented letter."""
    parts = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(part for part in parts if not unicodedata.combining(part)))


def _without_punctuation(text: str) -> str:
    return _SPACES.sub(" ", _BETWEEN_WORDS.sub(" ", _WITHIN_WORDS.sub("", text))).strip()


def _with_single_spaces(text: str) -> str:
    return _SPACES.sub(" ", text).strip()


def _bare(word: str) -> str:
    return word.casefold().rstrip(".,")
