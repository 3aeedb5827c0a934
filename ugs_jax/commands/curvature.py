"""`ugs curvature`: Fig. 1 of boxes of several sizes, or the curvature of a run."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro


def curvature_command(words: list[str]) -> None:
    """Draw the wells of boxes, or the curvature of a run."""
    tyro.cli(_curvature, args=words, prog="ugs curvature")


def _curvature(
    run: tyro.conf.Positional[str | None] = None,
    output: Path | None = None,
    which: Literal["best", "last"] = "best",
    batches: int = 1,
    steps: int = 24,
    probes: int = 2,
) -> None:
    """Show how sharp the loss of small boxes is: in principle, or in a run.

    Without a run: loss and gradient of -ln IoU and of UGS against the shift of boxes of 4 to 64 px (wells.png).

    With a run: curvature and variance of gradients by box size over its training, as it logged them, and at its
    checkpoint the spectrum of the Hessian of the training loss and two slices of the loss (curvature.png and
    curvature.json in the run folder).

    Args:
      run: a run folder, or the URL of a run. If it uses classes or functions of yours, add --import MODULE or
        --import FILE.py.
      output: the picture to write (.png, .svg or .pdf), instead of the places above.
      which: checkpoint.
      batches: training batches of the run that the Hessian is taken over.
      steps: Hessian-vector products for every probe of the spectrum.
      probes: random starts of the spectrum.
    """
    if run is None:
        from ugs_jax.report import plot_wells

        print(f"wells: {plot_wells(output or Path('wells.png'))}")
        return
    import jax

    from ugs_jax.analysis import measure_landscape
    from ugs_jax.atomic import write_atomically
    from ugs_jax.report import plot_sharpness
    from ugs_jax.runs.remote.opened import opened_run

    with opened_run(run, which) as opened:
        found = measure_landscape(opened.folder, which=which, batches=batches, steps=steps, probes=probes)
        default = opened.folder / "curvature.png"
        picture = plot_sharpness(opened.folder, output or default, found.density, found.slices)
        extremes = jax.device_get(found.density.extremes())
        values = opened.folder / "curvature.json"
        settings = {"checkpoint": which, "batches": batches, "steps": steps, "probes": probes}
        content = {**settings, **_plain(found), "extremes": _plain(extremes)}
        write_atomically(values, json.dumps(content, indent=1).encode())
    print(f"loss                {found.loss:.6g}")
    print(f"largest eigenvalue  {extremes.largest:.4g} ± {extremes.largest_error:.2g}")
    print(f"smallest eigenvalue {extremes.smallest:.4g} ± {extremes.smallest_error:.2g}")
    print(f"curvature: {opened.shown(picture)}  values: {opened.shown(values)}")


def _plain(value: Any) -> Any:
    """Named tuples as objects, arrays as lists."""
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return np.asarray(value).tolist()
