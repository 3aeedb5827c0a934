"""Class-balanced sampling: factors by hand, shares of every epoch, and the images of mosaics."""

import pickle
from collections import Counter
from itertools import islice

import cv2
import numpy as np
import pytest

from data_pipeline import Augmentation, Example, LoaderOptions, TrainLoader, dataset_from_examples, repeat_factors
from data_pipeline.augment import augmentation as augment
from data_pipeline.augment.augmentation import augmented, most_boxes
from data_pipeline.augment.mosaic import ImageDraw
from data_pipeline.balance import BalancedOrder
from data_pipeline.pictures import Pictures

SIZE = (32, 32)
IMAGE = cv2.imencode(".png", np.full((32, 32, 3), 90, np.uint8))[1].tobytes()


def dataset(*classes):
    """A data set of images with boxes of these classes."""
    examples = []
    for i, of_image in enumerate(classes):
        boxes = np.tile(np.float32([4, 4, 12, 12]), (len(of_image), 1))
        labels = np.array(of_image, np.int32)
        examples.append(Example(IMAGE, boxes, labels, np.zeros((0, 4), np.float32), i, f"{i}.png", 32, 32))
    return dataset_from_examples(examples, ["common", "rare", "rarest", "nowhere"])


FEW = dataset([0, 0], [0, 1, 1], [0], [], [0, 2, 1], [0], [0], [0])  # 7, 2 and 1 of 8 images


@pytest.mark.parametrize(
    ("threshold", "rare", "rarest"),
    [(0.125, 1, 1), (0.25, 1, 2**0.5), (0.5, 2**0.5, 2), (1, 2, 8**0.5)],  # √(threshold / share)
)
def test_factors_are_those_of_the_rarest_class_of_an_image(threshold, rare, rarest):
    common = max(1, (threshold / 0.875) ** 0.5)
    want = [common, rare, common, 1, rarest, common, common, common]
    np.testing.assert_allclose(repeat_factors(FEW, threshold), want)


def test_every_epoch_has_each_image_as_often_as_its_factor_says_rounded_up_or_down():
    factors = np.array([1.0, 1.0, 2.5, 1.0, 4.0, 1.0, 1.0, 1.3])
    order, want = BalancedOrder(factors, seed=2), 8 * factors / factors.sum()
    counts = np.array([np.bincount(order.draw_epoch(epoch), minlength=8) for epoch in range(400)])
    assert (counts.sum(axis=1) == 8).all()
    assert (counts >= np.floor(want)).all()
    assert (counts <= np.ceil(want)).all()
    np.testing.assert_allclose(counts.mean(axis=0), want, atol=4 * 0.5 / 400**0.5)  # 4 standard errors at most
    assert len({tuple(order.draw_epoch(epoch)) for epoch in range(10)}) == 10


def test_with_equal_factors_every_image_is_drawn_once_in_an_epoch():
    order = BalancedOrder(np.ones(50), seed=0)
    assert [sorted(order.draw_epoch(epoch)) for epoch in range(3)] == [list(range(50))] * 3


def test_a_sample_depends_on_seed_and_number_only():
    order = BalancedOrder(repeat_factors(FEW, 1), seed=2)
    samples = [order[i] for i in range(40)]
    other = pickle.loads(pickle.dumps(order))
    assert [other[i] for i in reversed(range(40))] == samples[::-1]
    assert [BalancedOrder(order.factors, seed=3)[i] for i in range(40)] != samples


def options(**changes):
    given = {"image_size": SIZE, "batch_size": 4, "max_boxes": 12, "threads": 0, "seed": 3, "balance": 1.0}
    return LoaderOptions(**(given | changes))


def test_batches_draw_rare_classes_more_often_and_epochs_keep_their_length():
    loader = TrainLoader(FEW, options(augmentation=Augmentation.none()))
    assert loader.steps_per_epoch == 2
    batches = list(islice(loader.batches(), 40))  # 20 epochs
    counts = Counter(int(i) for batch in batches for i in batch.image_id)
    factors = repeat_factors(FEW, 1)
    want = 160 * factors / factors.sum()
    np.testing.assert_allclose([counts[i] for i in range(8)], want, atol=4 * 0.5 * 20**0.5)
    for step in (0, 5):
        again = TrainLoader(FEW, loader.options).batch_at(step)
        shares = [TrainLoader(FEW, loader.options, p, 2).batch_at(step) for p in range(2)]
        np.testing.assert_array_equal(again.image_id, batches[step].image_id)
        np.testing.assert_array_equal(np.stack([s.image_id for s in shares], 1).ravel(), again.image_id)


def test_the_other_images_of_a_mosaic_are_drawn_by_their_factors_too():
    shares = np.array([0.5, 0.0, 0.125, 0.375])
    drawn = ImageDraw(4, np.cumsum(shares))(np.random.default_rng(0), 4000)
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 4000, shares, atol=4 * 0.5 / 4000**0.5)
    assert len(ImageDraw(4, np.cumsum(shares))(np.random.default_rng(0))) == 1


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_the_bound_of_the_boxes_counts_the_images_that_are_drawn(mixup, monkeypatch):
    used, draw = [], augment.draw

    def noted(pictures, placed, rule):
        used.extend(i for i, _ in placed)
        return draw(pictures, placed, rule)

    monkeypatch.setattr(augment, "draw", noted)
    chosen = ImageDraw(8, np.cumsum(repeat_factors(FEW, 1)) / repeat_factors(FEW, 1).sum())
    counts, augmentation = np.diff(FEW.table.box_start), Augmentation(mosaic=0.8, mixup=mixup)
    for seed in range(20):
        used.clear()
        augmented(Pictures(FEW, SIZE, 0), seed % 8, augmentation, np.random.default_rng(seed), chosen)
        bound = most_boxes(counts, FEW.table.sizes, seed % 8, augmentation, np.random.default_rng(seed), chosen)
        assert bound == counts[used].sum()


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_threshold_that_is_not_a_share_is_refused(share):
    with pytest.raises(ValueError, match=r"LoaderOptions\.balance: expected a share of images in \(0, 1\]"):
        options(balance=share)
