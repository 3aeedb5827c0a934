"""The view of a data set in tiles: pixels, samples, names, numbers, and what is refused."""

import concurrent.futures
import json
import pickle
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipeline import CocoJson, DataError, Dataset, Tiles, dataset_from_examples
from data_pipeline.decoding.images import decode_image
from data_pipeline.tiling.tile_images import TileImages
from tests.data_pipeline.tiling.scenes import Scenes, png, scene

TILE = (48, 64)


@dataclass(frozen=True)
class Given:
    """Examples in memory as both splits."""

    examples: tuple = ()

    def open(self, split: str, cache_dir: Path | None = None) -> Dataset:
        return dataset_from_examples(list(self.examples), ("a", "b"), name="given", split=split)


def tiles_of(*scenes, split="train", **options):
    return Tiles(Given(scenes), **({"tile": TILE, "empty_share": 1.0} | options)).open(split)


def windows_by_hand(height, width):
    """Tiles of 48 × 64 px at overlap 0.25: they advance by 36 and 48 px."""
    along = {(100, 36, 48): [0, 36, 52], (150, 48, 64): [0, 48, 86]}
    return [(top, left) for top in along[height, 36, 48] for left in along[width, 48, 64]]


def test_tiles_are_the_pixels_of_their_windows():
    pixels, example = scene(0, 100, 150, [(3, 4, 10, 11)])
    tiles = tiles_of(example, overlap=0.25)
    places = windows_by_hand(100, 150)
    assert tiles.file_names == tuple(f"0.png@x{left}y{top}" for top, left in places)
    assert tiles.source_ids == tuple(f"0@x{left}y{top}" for top, left in places)
    for index, (top, left) in enumerate(places):
        expected = pixels[top : top + 48, left : left + 64]
        np.testing.assert_array_equal(tiles.pixels(index), expected)
        np.testing.assert_array_equal(decode_image(tiles[index].image, ""), expected)  # the same as a file
        assert (tiles[index].height, tiles[index].width) == TILE


def test_an_image_smaller_than_a_tile_is_one_tile_with_its_own_name_and_grey_around():
    pixels, example = scene(0, 30, 40, [(3, 4, 10, 11)])
    tiles = tiles_of(example)
    assert (tiles.file_names, tiles.source_ids) == (("0.png",), (0,))
    np.testing.assert_array_equal(tiles.pixels(0)[:30, :40], pixels)
    assert (tiles.pixels(0)[30:] == 114).all()
    assert (tiles.pixels(0)[:, 40:] == 114).all()
    np.testing.assert_array_equal(tiles[0].boxes, [[3, 4, 10, 11]])


def test_everything_bright_in_a_tile_is_an_object_or_an_ignore_region():
    rng, scenes = np.random.default_rng(0), []
    for index in range(4):
        corner = rng.integers(0, 90, (8, 2))
        boxes = np.concatenate([corner, corner + rng.integers(2, 40, corner.shape)], axis=1).clip(0, 100)
        scenes.append(scene(index, 100, 150, boxes[:6].tolist(), boxes[6:].tolist())[1])
    tiles = tiles_of(*scenes, overlap=0.25)
    for index, tile in enumerate(tiles):
        marked = np.zeros(TILE, bool)
        for x1, y1, x2, y2 in np.concatenate([tile.boxes, tile.ignore]).astype(int):
            marked[y1:y2, x1:x2] = True
        np.testing.assert_array_equal(tiles.pixels(index)[..., 0] == 200, marked)


def test_windows_belong_to_the_upright_image(tmp_path):
    pixels, _ = scene(0, 100, 150, [(3, 4, 10, 11)])
    tags = Image.Exif()
    tags[274] = 6  # stored turned by 90°
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "a.png", exif=tags)
    box = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [3, 4, 7, 7]}
    content = {"images": [{"id": 7, "file_name": "a.png", "height": 100, "width": 150}], "annotations": [box]}
    (tmp_path / "a.json").write_text(json.dumps(content | {"categories": [{"id": 1, "name": "a"}]}))
    data = CocoJson(tmp_path, tmp_path / "a.json", tmp_path, tmp_path / "a.json")
    tiles = Tiles(data, TILE, overlap=0.25, empty_share=1.0).open("train", tmp_path / "cache")
    assert tiles.source_ids[1] == "7@x48y0"
    for index, (top, left) in enumerate(windows_by_hand(100, 150)):
        np.testing.assert_array_equal(tiles.pixels(index), pixels[top : top + 48, left : left + 64])
    assert tiles[0].boxes.tolist() == [[3, 4, 10, 11]]


def names(data, split="train"):
    return set(data.open(split).file_names)


def test_a_share_of_the_empty_training_tiles_is_kept_the_same_at_every_opening():
    everything = Tiles(Scenes(), TILE, empty_share=1.0).open("train")
    empty = {name for name, tile in zip(everything.file_names, everything, strict=True) if not len(tile.boxes)}
    kept = {share: names(Tiles(Scenes(), TILE, empty_share=share)) for share in (0.0, 0.3, 0.6, 1.0)}
    full = set(everything.file_names) - empty
    assert len(empty) > 10
    assert kept[0.0] == full
    assert kept[1.0] == full | empty
    for share in (0.3, 0.6):
        assert full <= kept[share]
        assert len(kept[share] & empty) == round(share * len(empty))
    assert kept[0.3] < kept[0.6]
    assert names(Tiles(Scenes(), TILE, empty_share=0.3)) == kept[0.3]
    assert names(Tiles(Scenes(), TILE, empty_share=0.3, seed=1)) != kept[0.3]


def test_training_tiles_wholly_inside_ignore_regions_are_dropped_and_counted():
    _, example = scene(0, 48, 180, [(2, 2, 9, 9)], [(58, 0, 122, 48), (122, 0, 140, 48)])
    tiles = tiles_of(example, overlap=0.0)  # at 0, 64 and 116
    assert tiles.file_names == ("0.png@x0y0", "0.png@x116y0")
    assert tiles.summary == {"tiles wholly inside ignore regions (dropped)": 1}


def test_validation_keeps_every_empty_tile_or_the_whole_images():
    _, example = scene(0, 100, 150, [(2, 2, 9, 9)])
    assert len(tiles_of(example, empty_share=0.0)) == 1
    assert len(tiles_of(example, empty_share=0.0, whole=True, overlap=0.25, split="val")) == 9
    whole = tiles_of(example, val="whole", split="val")
    assert (len(whole), whole[0].image) == (1, example.image)


def test_whole_images_follow_their_tiles_but_not_where_a_tile_is_the_image():
    pixels, large = scene(0, 48, 100, [(2, 2, 9, 9), (20, 5, 80, 40)])
    _, small = scene(1, 48, 64, [(2, 2, 9, 9)])
    tiles = tiles_of(large, small, whole=True)
    assert tiles.file_names == ("0.png@x0y0", "0.png@x36y0", "0.png", "1.png")
    np.testing.assert_array_equal(tiles.pixels(2), pixels)
    np.testing.assert_array_equal(tiles[2].boxes, large.boxes)
    assert tiles.table.sizes.tolist() == [[48, 64], [48, 64], [48, 100], [48, 64]]


def test_objects_that_are_whole_in_no_tile_are_counted_and_the_fix_is_named(capsys):
    _, example = scene(0, 48, 300, [(2, 2, 9, 9), (40, 5, 90, 40), (100, 5, 260, 40)])
    tiles = tiles_of(example, overlap=0.25)  # advance by 48: tiles of x at 0…64, 48…112, 96…160, …
    assert tiles.summary["objects that no tile shows as a whole"] == 2
    assert tiles.summary["objects that are ignore regions in every tile"] == 1
    shown = capsys.readouterr().err
    assert (
        "given/train: 2 of 3 objects are whole in no tile, because they are longer than the overlap of 12 px; the "
        "longest side is 160 px. 1 of them are ignore regions in every tile. Fix: tile 640 at overlap 0.25, or "
        "whole=True, which adds the whole images"
    ) in shown
    _, example = scene(0, 48, 300, [(40, 5, 70, 40)])
    tiles_of(example, overlap=0.25)
    assert "Fix: overlap 0.73 (enough" not in capsys.readouterr().err
    tiles_of(scene(0, 48, 300, [(40, 5, 70, 20)])[1], overlap=0.25)
    assert "Fix: overlap 0.47 (enough for all of them), tile 128 at overlap 0.25, or whole" in capsys.readouterr().err
    tiles_of(example, overlap=0.25, whole=True)
    assert "Fix" not in capsys.readouterr().err


def test_the_numbers_of_tiles_are_told(capsys):
    tiles_of(scene(0, 100, 150, [(2, 2, 9, 9)])[1], overlap=0.25, empty_share=0.5)
    told = capsys.readouterr().err
    assert "given/train: 5 tiles of 64 × 48 px from 1 image, with 1 box of 1 object" in told
    assert "left out: 4 tiles without objects, 0 inside ignore regions" in told


def test_tiles_of_an_image_that_could_not_be_read_are_unreadable():
    examples = [scene(index, 100, 150, [(2, 2, 9, 9), (70, 60, 80, 70)])[1] for index in range(3)]
    whole = replace(dataset_from_examples(examples, ("a", "b")), unreadable={1: "b.png: expected an image. Fix: x."})
    tiles = Tiles(Scenes(), TILE, overlap=0.25, empty_share=0.0).cut(whole, training=True)
    of_the_image = [index for index, name in enumerate(tiles.file_names) if name.startswith("1.png@")]
    assert len(of_the_image) == 3  # one object is in the first tile, one in two that overlap
    assert sorted(tiles.unreadable) == of_the_image
    with pytest.raises(DataError, match=r"b\.png: expected an image"):
        tiles.pixels(of_the_image[0])


class Counted(list):
    """Encoded images that count how often each is read."""

    def __init__(self, images):
        super().__init__(images)
        self.reads = Counter()

    def __getitem__(self, index):
        self.reads[index] += 1
        return super().__getitem__(index)


def test_an_unreadable_image_without_objects_is_not_forgotten():
    examples = [scene(index, 100, 150, boxes)[1] for index, boxes in enumerate([[(2, 2, 9, 9)], []])]
    whole = replace(dataset_from_examples(examples, ("a", "b")), unreadable={1: "b.png: expected an image. Fix: x."})
    tiles = Tiles(Scenes(), TILE, overlap=0.25, empty_share=0.0).cut(whole, training=True)
    assert tiles.file_names == ("0.png@x0y0", "1.png@x0y0")
    assert tiles.unreadable == {1: "b.png: expected an image. Fix: x."}


def counted_tiles(cache_bytes=2**28):
    whole = Scenes().open("train")
    whole = replace(whole, images=Counted(whole.images))
    tiles = Tiles(Scenes(), TILE, empty_share=1.0).cut(whole, training=True)
    source = tiles.images
    return replace(tiles, images=TileImages(whole, source.image, source.windows, cache_bytes)), whole.images.reads


@pytest.mark.parametrize("cache_bytes", [0, 2**28])
def test_tiles_in_order_cost_one_decoding_per_image(cache_bytes):
    tiles, reads = counted_tiles(cache_bytes)
    for index in range(len(tiles)):
        tiles.pixels(index)
    assert reads == dict.fromkeys(range(6), 1)
    tiles.pixels(0)
    assert reads[0] == (2 if cache_bytes == 0 else 1)


def test_threads_that_want_one_image_decode_it_once():
    tiles, reads = counted_tiles()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = list(pool.map(tiles.pixels, range(len(tiles))))
    assert reads == dict.fromkeys(range(6), 1)
    again, _ = counted_tiles()
    for index, pixels in enumerate(read):
        np.testing.assert_array_equal(pixels, again.pixels(index))


def test_a_failed_decoding_is_an_error_for_every_reader_and_tried_again():
    broken = scene(0, 100, 150, [(2, 2, 9, 9)])[1]._replace(image=b"no image")
    tiles = tiles_of(broken)
    for _ in range(2):
        with pytest.raises(DataError, match=r"0\.png: expected a JPEG"):
            tiles.pixels(0)
    wrong = scene(0, 100, 150, [(2, 2, 9, 9)])[1]._replace(image=png(np.zeros((10, 12, 3), np.uint8)))
    with pytest.raises(DataError, match=r"0\.png: expected 150 x 100 px"):
        tiles_of(wrong).pixels(0)


def test_a_pickled_copy_reads_the_same_tiles():
    tiles = Tiles(Scenes(), TILE).open("train")
    before = tiles.pixels(3)
    copy = pickle.loads(pickle.dumps(tiles))
    np.testing.assert_array_equal(copy.pixels(3), before)
    assert len(pickle.dumps(tiles)) < 2 * len(pickle.dumps(Scenes().open("train"))) + 20_000  # no decoded images


def test_a_tile_does_not_keep_its_image_in_memory():
    tiles = tiles_of(scene(0, 100, 150, [(2, 2, 9, 9)])[1])
    assert tiles.pixels(0).base is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 0}, r"Tiles\.tile: expected a height of at least 1 px, got 0"),
        ({"tile": (64, -1)}, r"Tiles\.tile: expected a width of at least 1 px, got \(64, -1\)"),
        ({"overlap": 1.0}, r"Tiles\.overlap: expected a share of the tile in \[0, 1\), got 1\.0; 0\.2 is usual"),
        ({"tile": 4, "overlap": 0.9}, r"Tiles\.overlap: expected tiles of 4 px to advance by 1 px or more"),
        ({"keep_visible": 1.5}, r"Tiles\.keep_visible: expected a share in \[0, 1\], got 1\.5"),
        ({"empty_share": -0.1}, r"Tiles\.empty_share: expected a share in \[0, 1\], got -0\.1"),
        ({"seed": -1}, r"Tiles\.seed: expected 0 or more, got -1"),
        ({"data": Tiles(Scenes())}, r"Tiles\.data: expected a data set of whole images, got Tiles; cut it once"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Tiles(**({"data": Scenes()} | options))


def test_one_number_is_a_square_tile():
    assert Tiles(Scenes(), 32).size == (32, 32)
    assert Tiles(Scenes(), 32).classes == ("a", "b")


def test_tiles_are_cut_from_jpeg_files_as_they_decode():
    pixels, example = scene(0, 100, 150, [(3, 4, 10, 11)])
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    tiles = tiles_of(example._replace(image=data), overlap=0.25)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(tiles.pixels(4), decoded[36:84, 48:112])
