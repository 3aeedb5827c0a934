"""Fixtures that several test files use."""

import pytest

from tests.data_pipeline.coco_folder import write_image


@pytest.fixture
def folder(tmp_path):
    """Three images, one without annotations in `coco_folder.CONTENT`."""
    for name in ("b.png", "sub/a.jpg", "empty.png"):
        write_image(tmp_path / "images" / name)
    return tmp_path
