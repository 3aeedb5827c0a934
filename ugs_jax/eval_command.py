"""`ugs eval`: scores of a run."""

from typing import Literal

import tyro

from ugs_jax.score_command import ProtocolName, print_scores, room_for, scorer_for, write_evaluation


def eval_command(words: list[str]) -> None:
    """Score a run."""
    tyro.cli(_evaluate_run, args=words, prog="ugs eval")


def _evaluate_run(
    run: tyro.conf.Positional[str],
    which: Literal["best", "last"] = "best",
    split: Literal["val", "train"] = "val",
    protocol: ProtocolName = "default",
) -> None:
    """Score a run on the images of its config.

    With `--protocol visdrone` results are also written as a submission: a folder of text files and a zip archive.

    Args:
      run: a run folder, or the URL of a run.
      which: checkpoint.
      split: the validation images, or the training images as they are: what the run has learned by heart.
      protocol: what to count; other than by default, as many detections are kept as the protocol counts.
    """
    from ugs_jax.training import evaluate, jit_detect, load_for_inference, read_experiment
    from ugs_jax.training.remote.opened import opened_run

    with opened_run(run, which) as opened:
        experiment = read_experiment(opened.folder)
        data = experiment.data.open(split)
        detector, state, mesh = load_for_inference(opened.folder, experiment, which=which)
        detect = jit_detect(detector, room_for(protocol, experiment.postprocess), mesh)
        scorer = scorer_for(protocol, data, experiment.data)
        scores = evaluate(detect, state.ema_params, state.ema_stats, data, experiment.loader, mesh, scorer)
        suffix = f"{which}{'_train' if split == 'train' else ''}{'' if protocol == 'default' else f'_{protocol}'}"
        written = write_evaluation(opened.folder, suffix, scorer, scores, data)
    print_scores(scores, f"{experiment.name} ({which}, {split})", scorer.describe())
    for what, file in written.items():
        print(f"{what}: {opened.shown(file)}")
