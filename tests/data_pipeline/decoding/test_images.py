"""Decoding: every supported image becomes 8-bit RGB; every broken one gives a DataError with file and remedy."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline.decoding.images import decode_image, path_inside, read_image_file
from data_pipeline.errors import DataError

HEIGHT, WIDTH = 20, 30


def encode(pixels, suffix=".png"):
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def test_colour_images_come_out_as_red_green_blue():
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[..., 2] = 200  # OpenCV's order: blue, green, red
    assert decode_image(encode(pixels), "red.png")[0, 0].tolist() == [200, 0, 0]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_lossless_formats_give_back_their_pixels(suffix):
    np.testing.assert_array_equal(decode_image(encode(picture(), suffix), "x")[..., ::-1], picture())


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_give_back_a_flat_colour(suffix):
    flat = np.full((HEIGHT, WIDTH, 3), (40, 90, 200), np.uint8)
    decoded = decode_image(encode(flat, suffix), "x").astype(int)
    assert np.abs(decoded - [200, 90, 40]).max() <= 5  # chroma rounding at the default quality


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff"])
def test_grey_images_are_repeated_into_three_channels(suffix):
    decoded = decode_image(encode(np.full((HEIGHT, WIDTH), 77, np.uint8), suffix), "grey")
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    assert (decoded == 77).all()


def test_an_alpha_channel_is_dropped():
    pixels = np.dstack([picture(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    np.testing.assert_array_equal(decode_image(encode(pixels), "alpha.png")[..., ::-1], picture())


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_samples_are_scaled_to_the_full_8_bit_range(channels, suffix):
    levels = np.array([0, 257, 128 * 257, 65535], np.uint16)
    pixels = np.repeat(levels.reshape(1, 4, 1), channels, axis=2)
    decoded = decode_image(encode(pixels, suffix), "deep")
    assert decoded.dtype == np.uint8
    assert decoded[0, :, 0].tolist() == [0, 1, 128, 255]


def test_cmyk_jpeg_is_converted():
    pillow = pytest.importorskip("PIL.Image")
    import io

    buffer = io.BytesIO()
    pillow.new("CMYK", (WIDTH, HEIGHT), (0, 255, 255, 0)).save(buffer, "JPEG")
    decoded = decode_image(buffer.getvalue(), "cmyk.jpg")
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    red, green, blue = decoded[HEIGHT // 2, WIDTH // 2].tolist()
    assert red > 200
    assert max(green, blue) < 60


def test_floating_point_samples_are_refused_with_the_fix():
    with pytest.raises(
        DataError, match=r"deep\.tiff: expected 8- or 16-bit unsigned samples, got float32.*Fix: convert"
    ):
        decode_image(encode(np.zeros((4, 4, 3), np.float32), ".tiff"), "deep.tiff")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_truncated_files_are_refused_with_file_and_fix(suffix, share):
    data = encode(picture(), suffix)
    with pytest.raises(DataError, match=r"shot\.img: expected .*, got .*Fix: "):
        decode_image(data[: int(len(data) * share)], "shot.img")


def test_a_truncated_jpeg_with_a_whole_thumbnail_inside_is_refused():
    data, thumbnail = encode(picture(), ".jpg"), encode(picture()[:8, :8], ".jpg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + segment + data[2:]
    assert decode_image(whole, "whole.jpg").shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DataError, match="truncated"):
        decode_image(whole[:-40], "cut.jpg")


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_bytes_that_are_no_image_are_refused(data):
    with pytest.raises(DataError, match=r"a\.jpg: expected .*, got .* bytes.*Fix: "):
        decode_image(data, "a.jpg")


def test_a_missing_file_is_named_with_the_fix(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg: expected an image file, found none\. Fix: restore"):
        read_image_file(tmp_path / "gone.jpg")


def test_a_folder_in_place_of_an_image_is_named(tmp_path):
    with pytest.raises(DataError, match=r"expected a readable image file, got Is a directory"):
        read_image_file(tmp_path)


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "..\\x.jpg", "C:\\x.jpg", ""])
def test_file_names_that_leave_their_folder_are_refused(name):
    with pytest.raises(DataError, match=r"expected a path inside images, got one that leads elsewhere.*Fix: "):
        path_inside(Path("images"), name)


@pytest.mark.parametrize("name", ["x.jpg", "a/b/x.jpg", "a\\x.jpg", "..x.jpg"])
def test_file_names_in_subfolders_are_joined(name):
    assert Path("images") in path_inside(Path("images"), name).parents
