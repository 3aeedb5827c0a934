"""Options of the commands that take a run or a file of weights: `ugs predict`, `ugs eval` and `ugs export`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ugs_jax.runs import LoadedDetector


@dataclass(frozen=True)
class SourceOptions:
    """Changes to a run or a file of weights that is loaded.

    Attributes:
      image_size: Height and width of the network's input, px. One number gives a square. The default is that of the run
        or of the file. Published weights have 640.
      classes: Class names that replace those of the run or the file, one for each class in order.
    """

    image_size: tuple[int] | tuple[int, int] | None = None
    classes: tuple[str, ...] = ()

    def load(self, source: str, which: Literal["best", "last"]) -> "LoadedDetector":
        """Return the detector of a run or of a file of weights.

        Args:
          source: Run folder, file of weights, or URL of one of them.
          which: Checkpoint of a run.
        """
        from ugs_jax.runs import load

        size = None if self.image_size is None else (self.image_size[0], self.image_size[-1])
        return load(source, classes=self.classes or None, image_size=size, which=which)

    def describe(self) -> str:
        """Return the image size as a part of file names. The text is empty for the default."""
        return "" if self.image_size is None else f"size{'x'.join(map(str, self.image_size))}"
