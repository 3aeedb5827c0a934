"""The `ugs` command. Nothing is imported before it is known what for: `ugs verify` needs only JAX and NumPy."""

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NamedTuple

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

--import MODULE_OR_FILE.py  let a run use classes and functions of yours, which this module or file defines: no run
                            folder is able to import anything by itself. May be repeated.
--debug                     also print the traceback of an error.
"""


class _Command(NamedTuple):
    module: str
    function: str
    takes_imports: bool = False


_COMMANDS = {
    "train": _Command("ugs_jax.commands.train", "train_command", takes_imports=True),
    "compare": _Command("ugs_jax.commands.compare", "compare_command", takes_imports=True),
    "ablate": _Command("ugs_jax.commands.ablate", "ablate_command", takes_imports=True),
    "eval": _Command("ugs_jax.commands.evaluate", "eval_command", takes_imports=True),
    "score": _Command("ugs_jax.commands.score", "score_command"),
    "predict": _Command("ugs_jax.commands.predict", "predict_command", takes_imports=True),
    "curvature": _Command("ugs_jax.commands.curvature", "curvature_command", takes_imports=True),
    "plan": _Command("ugs_jax.commands.plan", "plan_command"),
    "data": _Command("ugs_jax.commands.data", "data_command"),
    "import": _Command("ugs_jax.commands.weights", "import_command"),
    "export": _Command("ugs_jax.commands.weights", "export_command", takes_imports=True),
    "verify": _Command("ugs_jax.commands.verify", "main"),
}
"""Every command: the function that runs it, and whether `--import` tells it of code of the user's."""

_INTERRUPTED = 128 + 2  # as a shell says that a SIGINT ended it


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `ugs` command.

    Args:
      arguments: words after `ugs`; those of the command line by default.

    Returns:
      Exit status: 75 (try again) of a run that was asked to stop and has saved, 130 of what Ctrl-C has ended.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--debug"]:
        words = [*words[1:], "--debug"]
    if not words or words[0] in ("-h", "--help"):
        from ugs_jax.commands.train import known_configs

        print(_MANUAL.format(configs="\n  ".join(known_configs())))
        return 0
    name, *rest = words
    if name not in _COMMANDS:
        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        print(f"ugs: no command {name!r}{f'; did you mean {near[0]!r}?' if near else ''}", file=sys.stderr)
        return 2
    debug = "--debug" in rest
    try:
        return _run(name, [word for word in rest if word != "--debug"])
    except (ValueError, OSError, ArithmeticError) as error:  # what we raise ourselves says what to do about it
        if debug:
            traceback.print_exc()
        print(f"ugs {name}: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 1)
    except KeyboardInterrupt:
        print(f"ugs {name}: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _run(name: str, words: list[str]) -> int:
    command = _COMMANDS[name]
    if name != "verify":
        _keep_compiled_programs()
    if command.takes_imports:
        words, modules = _split_imports(words)
        for module in modules:
            from ugs_jax.experiment.user_code import import_named

            import_named(module)
    status = getattr(importlib.import_module(command.module), command.function)(words)
    return status or 0


def _split_imports(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the other words, and the values of every `--import VALUE` and `--import=VALUE`.

    Raises:
      ValueError: The last word is `--import`.
    """
    others: list[str] = []
    modules: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--import" or word.startswith("--import="):
            value = word.partition("=")[2] or next(rest, "")
            if not value:
                raise ValueError("--import: expected a module or a Python file, got nothing; write --import FILE.py")
            modules.append(value)
        else:
            others.append(word)
    return others, modules


def _keep_compiled_programs() -> None:
    """Compile what any command has compiled before only once. JAX, which reads this when it is imported, is not yet."""
    from data_pipeline.cache import default_cache_dir

    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(default_cache_dir() / "compiled"))


if __name__ == "__main__":
    sys.exit(main())
