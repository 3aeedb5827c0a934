import pytest

from data_pipeline.cleaning import OUTSIDE, UNREADABLE
from data_pipeline.tiling.tiles import UNLEARNED
from data_pipeline.wording import counted, counted_reason


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "image", "0 images"), (1, "image", "1 image"), (2, "box", "2 boxes"), (1000, "class", "1,000 classes")],
)
def test_a_number_has_its_noun(number, noun, text):
    assert counted(number, noun) == text


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (OUTSIDE, "1 box wholly outside its image (dropped)"),
        (UNREADABLE, "1 image that cannot be read (no use in training, its objects missed in an evaluation)"),
        ("label rows repeated within their file", "1 label row repeated within its file"),
        (UNLEARNED, "1 object that is ignore regions in every tile"),
    ],
)
def test_one_of_a_kind_is_in_the_singular_and_several_are_not(reason, text):
    assert counted_reason(1, reason) == text
    assert counted_reason(2000, reason) == f"2,000 {reason}"
