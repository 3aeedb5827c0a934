"""Faults of a data set: counted by reason, with the image and the annotation that has each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """One fault of a data set.

    Attributes:
      image: File name of the image. It is empty if the entry belongs to no image.
      place: Annotation or file that has the fault, such as `annotation id 7` or `annotations/a.txt:3`. It is empty if
        the image itself has the fault.
      reason: Kind of the fault, in the plural, with its consequence in brackets.
      message: What was expected, what came, and the fix, for an annotation that cannot be used. A run with
        `LoaderOptions.strict` stops at it.
    """

    image: str
    place: str
    reason: str
    message: str = ""


class Faults(Counter[str]):
    """Counter by reason that also lists the faults which were noted with their place.

    Remarks, such as names that were matched without regard to case, are counted like in any Counter. Only a fault is
    noted. `ugs data check` lists the faults.

    Attributes:
      noted: Faults in the order in which they were noted.

    Example:
      >>> faults = Faults()
      >>> faults.note("boxes wholly outside their image (dropped)", [("a.jpg", "annotation id 7")])
      >>> faults
      Faults({'boxes wholly outside their image (dropped)': 1})
      >>> faults.noted[0].place
      'annotation id 7'
    """

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        super().__init__(counts)
        self.noted: list[Fault] = []

    def note(self, reason: str, places: Iterable[tuple[str, str]], message: str = "") -> None:
        """Count a fault at every place.

        Args:
          reason: Kind of the fault.
          places: Image and place of every fault, as in `Fault`.
          message: Message of these faults, as in `Fault`.
        """
        found = [Fault(image, place, reason, message) for image, place in places]
        if found:
            self[reason] += len(found)
            self.noted += found

    def include(self, other: "Faults", image: str = "") -> None:
        """Add the counts and the faults of another list.

        Args:
          other: Faults to add.
          image: File name of the image for faults that have none.
        """
        self.update(other)
        self.noted += [fault._replace(image=fault.image or image) for fault in other.noted]


def messages(faults: Iterable[Fault]) -> tuple[str, ...]:
    """Return place and message of the annotations that cannot be used."""
    return tuple(f"{fault.place}: {fault.message}" for fault in faults if fault.message)


def note(summary: Counter[str], reason: str, places: Sequence[tuple[str, str]]) -> None:
    """Note a fault at every place, or only count the places if `summary` is a plain Counter.

    Args:
      summary: Counter to which the faults are added.
      reason: Kind of the fault.
      places: Image and place of every fault, as in `Fault`.
    """
    if isinstance(summary, Faults):
        summary.note(reason, places)
    elif places:
        summary[reason] += len(places)
