"""One annotation file of COCO as a data set to score on, in the usual layouts."""

import pytest

from data_pipeline import CocoJson, DataError
from data_pipeline.sources.coco_layouts import coco_of_one_file
from tests.data_pipeline.sources.test_recognise import LAYOUTS, write_coco, write_layout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_annotation_file_without_a_partner_finds_its_images(tmp_path, layout):
    pair = write_layout(tmp_path, layout)
    pair.train_json.unlink()
    found = coco_of_one_file(pair.val_json)
    assert found == CocoJson(pair.val_images, pair.val_json, pair.val_images, pair.val_json)


def test_without_images_the_searched_folders_are_named(tmp_path):
    file = write_coco(tmp_path / "data" / "annotations" / "boats.json")
    with pytest.raises(DataError, match=r"boats\.json: expected its images, such as 'a\.jpg', in one of "):
        coco_of_one_file(file)
