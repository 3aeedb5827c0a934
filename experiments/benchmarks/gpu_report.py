"""Markdown tables of the measurements of `benchmarks.on_a_gpu`."""

from collections.abc import Mapping, Sequence
from typing import Any

_FIGURES = {
    "hessian": ("torch_over_hessian", "torch_over_autodiff", "autodiff_over_hessian", "hessian_over_copy"),
    "step cost": ("time_ratio", "time_ratio_interval", "memory_ratio", "device_peak_ratio"),
    "largest batch": ("trained_largest", "trained_too_large", "planned_largest", "planned_too_large"),
}
"""Keys of a result that the table shows, by step. Other steps show all of their plain numbers."""

_COLUMNS = (
    "step", "batch", "JAX, images/s", "PyTorch, images/s", "JAX over PyTorch", "MFU", "MFU of PyTorch", "host waits",
    "memory, GiB", "of PyTorch", "first step, s", "of PyTorch",
)  # fmt: skip


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables: training steps, other results, and what has no result.

    Args:
      lines: Lines of the results file.
    """
    results = [line for line in lines if "result" in line]
    by_name = {
        name: [x for x in results if x["result"].get("benchmark") == name] for name in ("train_step", "prediction")
    }
    other = [line for line in results if line["result"].get("benchmark") not in by_name]
    failed = [line for line in lines if "result" not in line]
    parts = [
        _about(lines),
        _table("Training steps", _COLUMNS, [_training_row(line) for line in by_name["train_step"]]),
        _table("Prediction", ("case", "ms"), [row for line in by_name["prediction"] for row in _prediction_rows(line)]),
        _table(
            "Other",
            ("step", "figures", "seconds"),
            [(x["step"], _figures(x), x.get("stopped", x["seconds"])) for x in other],
        ),
        _table("Without a result", ("step", "reason"), [(line["step"], line["failed"]) for line in failed]),
        _table("Commands", ("step", "`python -m …`"), [(line["step"], f"`{line['command']}`") for line in lines]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(lines: Sequence[Mapping[str, Any]]) -> str:
    keys = ("date", "commit", "gpu")
    seen = [", ".join(dict.fromkeys(str(line[key]) for line in lines if line.get(key))) or "–" for key in keys]
    versions = [line["result"].get("jax") for line in lines if "result" in line]
    jax = next((version for version in versions if isinstance(version, str)), "–")
    return "# On a GPU\n\n{}, commit {}, {}, jax {}.".format(*seen, jax)


def _training_row(line: Mapping[str, Any]) -> tuple[Any, ...]:
    (row,) = line["result"]["rows"]
    jax, torch = row["jax"], row.get("torch", {})
    eager = f" (eager: {torch['eager_because'][:80]})" if torch.get("eager_because") else ""
    interval = row.get("jax_over_torch_interval")
    return (
        line["step"],
        row["batch"],
        _number(jax["images_per_second"]),
        _number(torch.get("images_per_second")) + eager if torch else row.get("torch_failed", "–"),
        f"{row['jax_over_torch']} {interval}" if interval else "–",
        jax["mfu"],
        torch.get("mfu", "–"),
        f"{row['host_wait_share']:.1%}",
        _gibibytes(jax["device_peak"] or jax["compiled_peak"]),
        _gibibytes(torch.get("device_peak")),
        jax["warmup_seconds"],
        torch.get("warmup_seconds", "–"),
    )


def _prediction_rows(line: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (case, ", ".join(f"{engine} {numbers['ms']}" for engine, numbers in engines.items()))
        for case, engines in line["result"]["rows"].items()
    ]


def _figures(line: Mapping[str, Any]) -> str:
    result = line["result"]
    plain = [key for key, value in result.items() if isinstance(value, float)]
    keys = _FIGURES.get(line["step"], plain)
    return ", ".join(f"`{key}` {result[key]}" for key in keys if result.get(key) is not None)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a section with a table; an empty text without rows."""
    if not rows:
        return ""
    cells = [columns, ["---"] * len(columns), *rows]
    body = "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in cells)
    return f"## {title}\n\n{body}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _gibibytes(value: int | None) -> str:
    return "–" if value is None else f"{value / 2**30:.2f}"
