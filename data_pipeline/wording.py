"""Numbers with their nouns, for messages."""

import re


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 image`, `2 boxes`, `1,000 ignore regions`.

    Args:
      number: Number of things.
      noun: Singular of a noun whose plural ends in -s, or in -es after s and x.
    """
    plural = f"{noun}es" if noun.endswith(("s", "x")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


_OF_ONE = {"that are": "that is", "that share": "that shares", "that repeat": "that repeats", "their": "its"}


def counted_reason(number: int, reason: str) -> str:
    """Return a number with a phrase in the plural, in the singular for 1: `1 box wholly outside its image (dropped)`.

    Args:
      number: Number of things.
      reason: Phrase whose first plural is that of the things, such as the keys of `Dataset.summary`.
    """
    if number != 1:
        return f"{number:,} {reason}"
    nouns = re.match(r"(.*?)(?:(?<=x)es|s)\b(.*)", reason)
    if nouns is None:  # a phrase without a plural, of a data set of a user's own
        return f"1 {reason}"
    phrase = f"1 {nouns[1]}{nouns[2]}"
    for several, one in _OF_ONE.items():
        phrase = re.sub(rf"\b{several}\b", one, phrase)
    return phrase
