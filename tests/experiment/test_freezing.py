"""Frozen parameters: patterns of paths, and the split of trees."""

import numpy as np
import pytest

from tests.training.toy import toy_experiment
from ugs_jax.detectors import TrainableDetector
from ugs_jax.experiment.freezing import Frozen, freeze_statistics, frozen_paths, joined, without

NORM = {"scale": 1, "bias": 2}
PARAMS = {
    "backbone": {"stem": {"conv": {"kernel": 3}, "norm": NORM}, "blocks": {0: {"norm": NORM}, 10: {"kernel": 4}}},
    "heads": {0: {"score": {"kernel": 5, "bias": 6}}},
}
STATS = {"backbone": {"stem": {"norm": {"mean": 7, "var": 8}}, "blocks": {0: {"norm": {"mean": 9}}}}, "total": 10}
STEM, BLOCK = {f"backbone/stem/norm/{name}" for name in ("mean", "var")}, {"backbone/blocks/0/norm/mean"}


@pytest.mark.parametrize(
    ("patterns", "params", "stats"),
    [
        ((), set(), set()),
        (("heads",), {"heads/0/score/kernel", "heads/0/score/bias"}, set()),
        (("*/bias",), {"backbone/stem/norm/bias", "backbone/blocks/0/norm/bias", "heads/0/score/bias"}, set()),
        (("backbone/blocks/1*",), {"backbone/blocks/10/kernel"}, set()),
        (("backbone/blocks/1",), None, None),
        (("backbone/blocks/[0]/",), {"backbone/blocks/0/norm/bias", "backbone/blocks/0/norm/scale"}, BLOCK),
        (("*/stem/norm/scale", "*/stem/norm/bias"), {f"backbone/stem/norm/{n}" for n in NORM}, STEM),
        (("*/stem/norm/scale",), {"backbone/stem/norm/scale"}, set()),
        (("*/mean",), set(), {"backbone/stem/norm/mean", *BLOCK}),
        (("total",), set(), {"total"}),
    ],
)
def test_a_pattern_freezes_what_it_names_and_all_below_with_its_statistics(patterns, params, stats):
    if params is None:
        with pytest.raises(ValueError, match="fits none"):
            frozen_paths(PARAMS, STATS, patterns)
    else:
        assert frozen_paths(PARAMS, STATS, patterns) == Frozen(frozenset(params), frozenset(stats))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("backbon", "'backbon' fits none; did you mean 'backbone' or "),
        ("backbone/stem/cnov", "did you mean 'backbone/stem/conv'"),
        ("Backbone/stem/conv", "did you mean 'backbone/stem/conv'"),
        ("zzz", "the network has backbone, heads, total"),
        ("*", r"fit all 8 arrays; freeze fewer layers"),
    ],
)
def test_a_pattern_that_fits_nothing_or_everything_is_refused_with_a_remedy(pattern, message):
    with pytest.raises(ValueError, match=message):
        frozen_paths(PARAMS, STATS, (pattern,))


@pytest.mark.parametrize(
    "paths", [(), ("total",), ("backbone/stem/norm/mean",), ("backbone/stem/norm/mean", "backbone/stem/norm/var")]
)
def test_a_tree_is_split_and_joined_again(paths):
    part = without(STATS, frozenset(paths))
    assert "stem" in part["backbone"] or len(paths) == 2  # empty branches are left out
    halved = {"total": 5.0} if "total" in part else {}
    assert joined(part, STATS) == STATS
    assert joined({**part, **halved}, STATS)["total"] == (5.0 if halved else 10)


class _Plain:
    """A detector of a user, with batch statistics and without the ability to fix them."""

    arch = localization = None
    random = False

    def init(self, seed):
        return {"a": {"scale": np.ones(2)}, "b": np.ones(3)}, {"a": {"mean": np.zeros(2)}}

    def apply(self, params, stats, images, *, train, key=None):
        raise NotImplementedError

    def detect(self, params, stats, images, options):
        raise NotImplementedError


def test_a_detector_that_cannot_fix_its_statistics_is_refused_only_if_it_has_to():
    detector = _Plain()
    assert isinstance(detector, TrainableDetector)
    assert freeze_statistics(detector, ("b",)) is detector
    with pytest.raises(ValueError, match=r"such as a/mean, got _Plain; give it a method with_fixed_statistics"):
        freeze_statistics(detector, ("a",))


def test_frozen_layers_are_part_of_the_config_of_a_run():
    assert toy_experiment(freeze=("level0",)) != toy_experiment()
