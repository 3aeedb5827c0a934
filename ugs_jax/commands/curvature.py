"""The command `ugs curvature`: Fig. 1 for boxes of several sizes, or the curvature of a run."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro


def curvature_command(words: list[str]) -> None:
    """Run `ugs curvature`: plot the loss of boxes of several sizes, or the curvature of a run."""
    tyro.cli(_curvature, args=words, prog="ugs curvature")


def _curvature(
    run: tyro.conf.Positional[str | None] = None,
    output: Path | None = None,
    which: Literal["best", "last"] = "best",
    batches: int = 1,
    steps: int = 24,
    probes: int = 2,
) -> None:
    """Show how sharp the loss of small boxes is, in theory or in a run.

    Without a run, the command plots the loss and the gradient of -ln IoU and of UGS. They are plotted against the shift
    of boxes of 4 to 64 px (wells.png).

    With a run, it plots the curvature and the variance of gradients by box size during the training, from the log of
    the run. At the checkpoint, it computes the spectrum of the Hessian of the training loss and two slices of the loss.
    It writes curvature.png and curvature.json into the run folder.

    Args:
      run: Run folder, or URL of a run. If it uses classes or functions of yours, add --import MODULE or
        --import FILE.py.
      output: Picture to write (.png, .svg or .pdf), instead of the default file above.
      which: Checkpoint to measure: the best or the last.
      batches: Number of training batches over which the Hessian is computed.
      steps: Number of Hessian-vector products for each probe of the spectrum.
      probes: Number of random start vectors of the spectrum.
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
        landscape = measure_landscape(
            opened.folder,
            which=which,
            batches=batches,
            steps=steps,
            probes=probes,
            progress=lambda line: print(f"curvature: {line}", flush=True),
        )
        default = opened.folder / "curvature.png"
        picture = plot_sharpness(opened.folder, output or default, landscape.density, landscape.slices)
        extremes = jax.device_get(landscape.density.extremes())
        values = opened.folder / "curvature.json"
        settings = {"checkpoint": which, "batches": batches, "steps": steps, "probes": probes}
        content = {**settings, **_plain(landscape), "extremes": _plain(extremes)}
        write_atomically(values, json.dumps(content, indent=1).encode())
    print(f"loss                {landscape.loss:.6g}")
    print(f"largest eigenvalue  {extremes.largest:.4g} ± {extremes.largest_error:.2g}")
    print(f"smallest eigenvalue {extremes.smallest:.4g} ± {extremes.smallest_error:.2g}")
    print(f"curvature: {opened.shown(picture)}  values: {opened.shown(values)}")


def _plain(value: Any) -> Any:
    """Return a JSON value: named tuples become objects, and arrays become lists."""
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return np.asarray(value).tolist()
