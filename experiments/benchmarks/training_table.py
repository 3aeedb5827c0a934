"""Results of `benchmarks.train_step`: ratios, the worst of them, and the table."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from ugs_jax.analysis.step_cost import ratio_of_medians


class Turns(NamedTuple):
    """Measurements of one framework.

    Attributes:
      wall: Elapsed time of every turn, seconds.
      processor: Processor time of every turn, seconds.
      memory: Resident memory, bytes, by name.
      products: FLOP/s of matrix products.
    """

    wall: list[float]
    processor: list[float]
    memory: dict[str, int]
    products: list[float]


def comparison(turns: Sequence[Turns]) -> dict[str, Any]:
    """Return the speed of the first framework over that of the second; None values without a second."""
    keys = ("jax_over_torch", "jax_over_torch_interval", "processor_ratio", "processor_ratio_interval")
    if len(turns) < 2:
        return dict.fromkeys(keys)
    ratio, interval = ratio_of_medians(turns[1].wall, turns[0].wall)
    processor, processor_interval = ratio_of_medians(turns[1].processor, turns[0].processor)
    rounded = lambda ends: [round(end, 3) for end in ends]  # noqa: E731
    return dict(
        zip(keys, (round(ratio, 3), rounded(interval), round(processor, 3), rounded(processor_interval)), strict=True)
    )


def worst(rows: Sequence[dict[str, Any]], key: str, goal: Callable[..., float]) -> float | None:
    """Return `goal` (min or max) of a figure over the rows that have it; None if no row has it."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return goal(values) if values else None


def print_table(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Print a table with one line for each case and framework."""
    table = Table(title="training steps")
    for heading in ("case", "batch", "", "images/s", "quartiles", "MFU", "peak MiB", "JAX over PyTorch", "waits"):
        table.add_column(heading, justify="right")
    for row in rows:
        case = f"{row['size']} {row['image_size']} {row['dtype']}"
        if "failed" in row:
            table.add_row(case, "", row["failed"])
        for name in (name for name in ("jax", "torch") if name in row):
            side, first = row[name], name == "jax"
            low, high = side["images_per_second_quartiles"]
            memory = side["device_peak"] or side["resident_peak"] - side["resident_before"]
            interval = f"{row['jax_over_torch']} {row['jax_over_torch_interval']}" if "torch" in row and first else ""
            table.add_row(
                case if first else "",
                str(row["batch"]) if first else "",
                name,
                f"{side['images_per_second']:.3g}",
                f"{low:.3g} to {high:.3g}",
                f"{side['mfu']:.3f}",
                f"{memory / 2**20:.0f}",
                interval,
                f"{row['host_wait_share']:.1%}" if first else "",
            )
    console.print(table)
