"""Entry point of the `ugs` command line.

A command imports its modules only when it runs. `ugs verify` therefore needs only JAX and NumPy.
"""

import difflib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NamedTuple

from ugs_jax.exit_status import INTERRUPTED

_MANUAL = """\
usage: ugs COMMAND …

Small-object detection with uncertainty-aware gradient stabilization (UGS).

  ugs train [CONFIG] [--FIELD VALUE …]   train one experiment into a run folder, with curves and a report
  ugs train --data data.yaml             train on your data: a YOLO folder, COCO JSON or VisDrone
  ugs compare [CONFIG …] [--seeds 0 1 2] train several configs on the same batches, the baseline first; plot AP by epoch
  ugs ablate [CONFIG] [--seeds 0 1 2]    train L2, CE, IN, UM, UR on one config; compare AP, gradients, curvature, cost
  ugs report RUN                         write the report of a run: finished, stopped, or still running
  ugs eval RUN [--protocol …]            score a run on its validation images, or RUN or FILE on --data DATA
  ugs score PREDICTIONS --truth …        score the predictions of any program: COCO results or VisDrone submissions
  ugs predict RUN|FILE IMAGE …           detect objects in images and videos; write COCO, YOLO, CSV, VisDrone files
  ugs import FILE.pt                     read published weights of YOLO: no PyTorch, and nothing is executed
  ugs export RUN|FILE --format FORMAT    write safetensors, a PyTorch state dict, a StableHLO program or an ONNX model
  ugs curvature [RUN]                    wells of small boxes (Fig. 1), or curvature by box size and spectrum of a run
  ugs plan CONFIG --topology v5e:16x16 … predict memory, time and chip-hours of training on TPUs or GPUs you do not have
  ugs data prepare visdrone --from …     unpack the official archives, check every file and build the data set
  ugs data check DATA                    list faults, duplicates, leaks between splits, sizes, classes and crowding
  ugs verify [FILE …]                    check closed forms of Hessians (the paper's, ours, yours) against autodiff
  ugs env                                print versions, devices and memory, for reports of problems

RUN is a run folder or the URL of one, such as gs://bucket/run.
FILE is a file of weights or its URL: a .pt of YOLOv5, YOLOv5u, YOLOv8, YOLO11 or YOLO26, or a .safetensors file.
CONFIG is a Python file that defines `experiment = Experiment(…)`, or the name of one of these configs:
  {configs}
`ugs COMMAND --help` explains a command. `ugs train CONFIG --help` lists every field of that config with its value.

--import MODULE_OR_FILE.py  allow a run to use the classes and functions that this module or file of yours defines. Run
                            folders cannot import code by themselves. The option may be repeated.
--debug                     print the traceback of an error, too.
"""


class _Command(NamedTuple):
    module: str
    function: str
    takes_imports: bool = False


_COMMANDS = {
    "train": _Command("ugs_jax.commands.train", "train_command", takes_imports=True),
    "compare": _Command("ugs_jax.commands.compare", "compare_command", takes_imports=True),
    "ablate": _Command("ugs_jax.commands.ablate", "ablate_command", takes_imports=True),
    "report": _Command("ugs_jax.commands.report", "report_command", takes_imports=True),
    "eval": _Command("ugs_jax.commands.evaluate", "eval_command", takes_imports=True),
    "score": _Command("ugs_jax.commands.score", "score_command"),
    "predict": _Command("ugs_jax.commands.predict", "predict_command", takes_imports=True),
    "curvature": _Command("ugs_jax.commands.curvature", "curvature_command", takes_imports=True),
    "plan": _Command("ugs_jax.commands.plan", "plan_command"),
    "data": _Command("ugs_jax.commands.data", "data_command"),
    "import": _Command("ugs_jax.commands.weights", "import_command"),
    "export": _Command("ugs_jax.commands.weights", "export_command", takes_imports=True),
    "verify": _Command("ugs_jax.commands.verify", "main"),
    "env": _Command("ugs_jax.commands.env", "env_command"),
}
"""Commands by name: the function that runs the command, and True if the command takes `--import`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one `ugs` command and return its exit status.

    Args:
      arguments: Words after `ugs`. The default is the command line of the process.

    Returns:
      Exit status: 0 for success, 75 ("try again") for a run that was asked to stop and has saved its state, 130 for a
      command that Ctrl-C ended, and 1 or 2 for other errors. `ugs data check` returns 1 for faults in the data.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--debug"]:
        words = [*words[1:], "--debug"]
    if not words or words[0] in ("-h", "--help"):
        from ugs_jax.commands.train import config_modules

        print(_MANUAL.format(configs="\n  ".join(config_modules())))
        return 0
    name, *rest = words
    if name not in _COMMANDS:
        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        fix = f"did you mean {near[0]!r}?" if near else "`ugs --help` lists the commands"
        print(f"ugs: unknown command {name!r}; {fix}", file=sys.stderr)
        return 2
    debug = "--debug" in rest
    try:
        return _run(name, [word for word in rest if word != "--debug"])
    except (ValueError, OSError, ArithmeticError) as error:  # our own errors name the fix
        if debug:
            traceback.print_exc()
        print(f"ugs {name}: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 1)
    except KeyboardInterrupt:
        print(f"ugs {name}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(name: str, words: list[str]) -> int:
    command = _COMMANDS[name]
    logging.basicConfig(format="%(levelname)s: %(message)s")  # a library would set one with names of modules
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
    """Return all words except `--import VALUE` and `--import=VALUE`, and the list of these values.

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
    """Keep compiled programs on disk, so that later commands can use them.

    The variable has to be set before JAX is imported.
    """
    from data_pipeline.cache import default_cache_dir

    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(default_cache_dir() / "compiled"))


if __name__ == "__main__":
    sys.exit(main())
