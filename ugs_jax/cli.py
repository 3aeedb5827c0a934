"""The `ugs` command. Nothing is imported before it is known what for: `ugs verify` needs only JAX and NumPy."""

import difflib
import os
import sys
from collections.abc import Sequence

_MANUAL = """\
usage: ugs COMMAND …

Small-object detection with uncertainty-aware gradient stabilization (UGS).

  ugs train [CONFIG] [--FIELD VALUE …]   train one experiment into a run folder, with curves and a report
  ugs compare [CONFIG …] [--seeds 0 1 2] train several, the baseline first, on the same batches; draw AP by epoch
  ugs ablate [CONFIG] [--seeds 0 1 2]    L2, CE, IN, UM, UR on one config: a table of AP, gradients, curvature, cost
  ugs eval RUN [--protocol …]            score a run on its validation images (COCO AP by object size, VisDrone, …)
  ugs score PREDICTIONS --truth …        score predictions of any program: COCO results, VisDrone submissions
  ugs predict RUN IMAGE …                write boxes as JSON and as pictures
  ugs import FILE.pt                     read weights of YOLOv5 without PyTorch, and nothing in the file is executed
  ugs export RUN --format FORMAT         write safetensors, a state dict for PyTorch, a StableHLO or an ONNX program
  ugs curvature [RUN]                    Fig. 1: wells of small boxes; or curvature by box size and spectrum of a run
  ugs plan CONFIG --topology v5e:16x16 … memory, time and chip-hours of training on TPUs or GPUs that are not here
  ugs data prepare visdrone --from …     unpack the official archives, check every file, build the data set
  ugs verify [FILE …]                    check closed forms of Hessians against autodiff: the paper's, ours, yours

RUN is a run folder or the URL of one, such as gs://bucket/run.
CONFIG is the name of one of ours or a Python file that defines `experiment = Experiment(…)`:
  {configs}
`ugs COMMAND --help` tells the rest; `ugs train CONFIG --help` lists every field of that config with its value.
"""

_COMMANDS = (
    *("train", "compare", "ablate", "eval", "score", "predict", "curvature", "plan", "data", "import", "export"),
    "verify",
)

_INTERRUPTED = 128 + 2  # as a shell says that a SIGINT ended it


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `ugs` command.

    Args:
      arguments: words after `ugs`; those of the command line by default.

    Returns:
      Exit status: 75 (try again) of a run that was asked to stop and has saved, 130 of what Ctrl-C has ended.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        from ugs_jax.commands.train import known_configs

        print(_MANUAL.format(configs="\n  ".join(known_configs())))
        return 0
    name, *rest = words
    if name not in _COMMANDS:
        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        print(f"ugs: no command {name!r}{f'; did you mean {near[0]!r}?' if near else ''}", file=sys.stderr)
        return 2
    try:
        return _run(name, rest)
    except (ValueError, OSError, ArithmeticError) as error:  # what we raise ourselves says what to do about it
        print(f"ugs {name}: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 1)
    except KeyboardInterrupt:
        print(f"ugs {name}: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _run(name: str, words: list[str]) -> int:
    if name == "verify":
        from ugs_jax.commands.verify import main as verify

        return verify(words)
    _keep_compiled_programs()
    match name:
        case "train":
            from ugs_jax.commands.train import train_command as command
        case "compare":
            from ugs_jax.commands.compare import compare_command as command
        case "ablate":
            from ugs_jax.commands.ablate import ablate_command as command
        case "eval":
            from ugs_jax.commands.evaluate import eval_command as command
        case "score":
            from ugs_jax.commands.score import score_command as command
        case "predict":
            from ugs_jax.commands.predict import predict_command as command
        case "curvature":
            from ugs_jax.commands.curvature import curvature_command as command
        case "plan":
            from ugs_jax.commands.plan import plan_command as command
        case "data":
            from ugs_jax.commands.data import data_command as command
        case "import":
            from ugs_jax.commands.weights import import_command as command
        case _:
            from ugs_jax.commands.weights import export_command as command
    command(words)
    return 0


def _keep_compiled_programs() -> None:
    """Compile what any command has compiled before only once. JAX, which reads this when it is imported, is not yet."""
    from data_pipeline.cache import default_cache_dir

    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(default_cache_dir() / "compiled"))


if __name__ == "__main__":
    sys.exit(main())
