"""Images as cameras and programs write them: upright, equal to what Pillow and OpenCV show, or refused by name."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from data_pipeline import DataError
from data_pipeline.decoding.image_headers import PNG_SIGNATURE
from data_pipeline.decoding.images import decode_image
from data_pipeline.decoding.whole_images import decode_whole_image
from data_pipeline.pictures import Pictures
from tests.data_pipeline.coco_folder import annotation, open_with

HEIGHT, WIDTH = 40, 56
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
COLOURS = np.stack([X * 4, Y * 6, 255 - X - Y], axis=-1).astype(np.uint8)
RGB = Image.fromarray(COLOURS)
ALPHA = Image.fromarray((X * 4).astype(np.uint8))
RGBA = RGB.copy()
RGBA.putalpha(ALPHA)
GREY16 = Image.fromarray((X * 1100).astype(np.uint16))


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[274] = orientation
    return tags


FILES = {
    "PNG of one bit": saved(RGB.convert("1"), "PNG"),
    "PNG in grey": saved(RGB.convert("L"), "PNG"),
    "PNG with a palette": saved(RGB.convert("P"), "PNG"),
    "PNG with alpha": saved(RGBA, "PNG"),
    "PNG in grey with alpha": saved(RGBA.convert("LA"), "PNG"),
    "PNG with a transparent colour": saved(RGB, "PNG", transparency=(0, 0, 0)),
    "animated PNG": saved(RGB, "PNG", save_all=True, append_images=[RGB.rotate(180)]),
    "JPEG in grey": saved(RGB.convert("L"), "JPEG"),
    "progressive JPEG": saved(RGB, "JPEG", progressive=True),
    "CMYK JPEG": saved(RGB.convert("CMYK"), "JPEG", quality=95),
    "WebP with alpha": saved(RGBA, "WEBP", lossless=True, exact=True),
    "BMP of one bit": saved(RGB.convert("1"), "BMP"),
    "BMP with a palette": saved(RGB.convert("P"), "BMP"),
    "TIFF of one bit": saved(RGB.convert("1"), "TIFF"),
    "TIFF of a fax": saved(RGB.convert("1"), "TIFF", compression="group4"),
    "TIFF with a palette": saved(RGB.convert("P"), "TIFF"),
    "TIFF with alpha": saved(RGBA, "TIFF"),
    "TIFF in CMYK": saved(RGB.convert("CMYK"), "TIFF"),
    "TIFF of LZW": saved(RGB, "TIFF", compression="tiff_lzw"),
    "TIFF of two pages": saved(RGB, "TIFF", save_all=True, append_images=[RGB.convert("L")]),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_that_pillow_shows(name):
    with Image.open(io.BytesIO(FILES[name])) as image:
        image.info.pop("transparency", None)
        want = np.asarray(image.convert("RGBA" if "alpha" in name else "RGB"))[..., :3].astype(int)
    got = decode_image(FILES[name], name)
    assert got.dtype == np.uint8
    # One step of 255: inverse transforms of JPEG and CMYK's products are rounded by different libraries.
    assert np.abs(got.astype(int) - want).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_upright(kind, orientation):
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = saved(RGB, kind, exif=exif(orientation), **lossless)
    with Image.open(io.BytesIO(data)) as image:
        want = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    assert np.abs(decode_image(data, "x").astype(int) - want).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(kind):
    want = np.round(X * 1100 / 257).astype(int)
    for channel in np.moveaxis(decode_image(saved(GREY16, kind), "deep").astype(int), -1, 0):
        assert np.abs(channel - want).max() <= 1  # halves may go either way


def tiff(samples, *, planes=1, alpha=None, bits=16, interpretation=2, sample_format=1, strips=None):
    """An uncompressed little-endian TIFF file of one strip a plane, written by hand."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    body = np.moveaxis(samples, -1, 0) if planes == 2 else samples
    pixels = np.ascontiguousarray(body.astype(f"<u{bits // 8}")).tobytes()
    count = channels if planes == 2 else 1
    entries = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [bits] * channels),
        259: (3, [1]),
        262: (3, [interpretation]),
        277: (3, [channels]),
        278: (3, [height]),
        284: (3, [planes]),
        339: (3, [sample_format] * channels),
    }
    if alpha is not None:
        entries[338] = (3, [alpha])
    start = 8 + len(pixels)
    entries[273] = (4, [8 + k * len(pixels) // count for k in range(count)])
    entries[279] = (4, [len(pixels) // count] * count)
    extra, table = b"", struct.pack("<H", len(entries))
    after = start + 2 + 12 * len(entries) + 4
    for tag in sorted(entries):
        kind, values = entries[tag]
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            table += struct.pack("<HHII", tag, kind, len(values), after + len(extra))
            extra += packed + b"\0" * (len(packed) % 2)
        else:
            table += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", start) + pixels + table + b"\0\0\0\0" + extra


DEEP = COLOURS.astype(np.uint16) * 257


def test_16_bit_rgb_is_scaled():
    assert np.abs(decode_image(tiff(DEEP), "deep.tif").astype(int) - COLOURS).max() <= 1


def test_8_bit_planes_are_put_together():
    np.testing.assert_array_equal(decode_image(tiff(COLOURS, bits=8, planes=2), "planes.tif"), COLOURS)


def test_alpha_is_divided_out_where_colours_are_multiplied_by_it():
    alpha = np.full((HEIGHT, WIDTH, 1), 128, np.uint8)
    stored = np.concatenate([(COLOURS.astype(int) * 128 // 255).astype(np.uint8), alpha], axis=-1)
    decoded = decode_image(tiff(stored, bits=8, alpha=1), "premultiplied.tif").astype(int)
    assert np.abs(decoded - COLOURS).max() <= 3  # a step of 128 is two steps of 255


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(DEEP, planes=2), "16-bit samples lie in separate planes"),
        (
            tiff(COLOURS[..., 0], bits=8, sample_format=2, interpretation=1),
            "8- or 16-bit unsigned samples, got int8|signed",
        ),
        (tiff(X.astype(np.uint32), bits=32, interpretation=1), "8- or 16-bit unsigned samples, got"),
        (
            tiff(np.dstack([COLOURS, COLOURS]), bits=8, interpretation=1),
            "expected a JPEG, PNG, BMP, TIFF or WebP image",
        ),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
    ],
    ids=["planes of 16 bit", "signed", "32 bit", "six bands", "LFS pointer", "web page"],
)
def test_layouts_without_an_8_bit_form_are_refused_by_name(data, message):
    with pytest.raises(DataError, match=rf"odd\.img: .*({message}).*Fix: "):
        decode_image(data, "odd.img")


def test_an_image_beyond_the_limits_of_opencv_is_refused_with_its_size_and_what_to_do():
    header = struct.pack(">IIBBBBB", 40_000, 30_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(DataError, match=r"huge\.png: expected at most .* got 40000 × 30000 px\. Fix: cut the image"):
        decode_image(PNG_SIGNATURE + chunk, "huge.png")


JPEG = saved(RGB, "JPEG", quality=95)


@pytest.mark.parametrize(
    "data",
    [
        JPEG[:20] + b"stray" + JPEG[20:],
        JPEG[:-2] + b"\0" * 500 + JPEG[-2:],
        JPEG + b"more after the end",
        JPEG[:2] + b"\xff\xff\xff" + JPEG[2:],
    ],
    ids=["between headers", "padding before the end", "after the end", "fill bytes"],
)
def test_whole_jpegs_with_stray_bytes_are_read(data):
    np.testing.assert_array_equal(decode_whole_image(data, "stray.jpg"), decode_image(JPEG, "whole.jpg"))


def damaged_jpegs():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))
    whole = saved(noise, "JPEG", quality=90)
    middle = len(whole) // 2
    return {
        "zeros": whole[:middle] + b"\0" * 400 + whole[middle + 400 :],
        "bytes missing": whole[:middle] + whole[middle + 700 :],
        "a marker": whole[:middle] + b"\xff\xd9" + whole[middle + 2 :],
    }


@pytest.mark.parametrize("kind", damaged_jpegs())
def test_damage_inside_a_jpeg_is_found_and_named(kind, capfd):
    with pytest.raises(DataError, match=r"rot\.jpg: expected a whole image, got one that is damaged inside .*Fix: "):
        decode_whole_image(damaged_jpegs()[kind], "rot.jpg")
    assert "Corrupt JPEG" not in capfd.readouterr().err  # whose line has no file name


def damaged_pngs():
    whole = saved(RGB, "PNG")
    start = whole.index(b"IDAT") - 4
    length = struct.unpack(">I", whole[start : start + 4])[0]
    end = start + 12 + length
    body = zlib.decompress(whole[start + 8 : end - 4])

    def chunk(content):
        return struct.pack(">I", len(content)) + b"IDAT" + content + struct.pack(">I", zlib.crc32(b"IDAT" + content))

    cut = zlib.compress(body)[: length // 2]
    flipped = bytearray(whole)
    flipped[start + 8 + length // 2] ^= 0x10
    return {"a flipped bit": bytes(flipped), "pixels missing": whole[:start] + chunk(cut) + whole[end:]}


@pytest.mark.parametrize("kind", damaged_pngs())
def test_damage_inside_a_png_is_found_and_named(kind):
    with pytest.raises(DataError, match=r"rot\.png: expected a whole image, got one that is damaged inside .*Fix: "):
        decode_whole_image(damaged_pngs()[kind], "rot.png")


def test_other_lines_on_the_standard_error_are_kept(capfd, monkeypatch):
    import os

    from data_pipeline.decoding import whole_images

    def decode(data, name):
        os.write(2, b"Corrupt JPEG data: premature end of data segment\nanother library\n")
        return decode_image(data, name)

    monkeypatch.setattr(whole_images, "decode_image", decode)
    with pytest.raises(DataError, match="premature end"):
        decode_whole_image(JPEG, "rot.jpg")
    assert capfd.readouterr().err == "another library\n"


def test_a_damaged_image_of_a_data_set_is_named_counted_and_left_out(folder, caplog):
    (folder / "images" / "sub" / "a.jpg").write_bytes(damaged_jpegs()["zeros"])
    data = open_with(
        folder, images=[{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "sub/a.jpg"}], annotations=[]
    )
    assert "sub/a.jpg: expected a whole image, got one that is damaged inside" in caplog.text
    assert list(data.unreadable) == [1]
    assert Pictures(data, (32, 32), 0, strict=False).picture(1) is None


@pytest.mark.parametrize("sizes", [{}, {"width": 40, "height": 64}, {"width": 64, "height": 40}])
def test_boxes_lie_on_the_upright_image_whose_size_may_be_written_either_way(folder, sizes):
    """A bright box on a dark picture, stored on its side."""
    upright = np.zeros((64, 40, 3), np.uint8)
    upright[10:26, 8:20] = 255
    stored = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    (folder / "images" / "phone.jpg").write_bytes(saved(stored, "JPEG", exif=exif(6), quality=100))
    entry = {"id": 7, "file_name": "phone.jpg", **sizes}
    data = open_with(folder, images=[entry], annotations=[annotation(bbox=[8, 10, 12, 16])])
    assert (data[0].height, data[0].width) == (64, 40)
    picture = Pictures(data, (64, 64), 0).picture(0)
    assert picture.image[12:24, 10:18].min() > 240
    assert picture.image[30:, :].max() < 16


def test_a_size_that_neither_frame_has_is_named(folder, caplog):
    (folder / "images" / "phone.jpg").write_bytes(saved(RGB, "JPEG", exif=exif(6)))
    images = [{"id": 7, "file_name": "phone.jpg", "width": 99, "height": 40}, {"id": 9, "file_name": "b.png"}]
    open_with(folder, images=images, annotations=[annotation()])
    assert "phone.jpg: expected 99 × 40 px" in caplog.text
    assert "got 40 × 56 px upright, after its EXIF orientation is applied" in caplog.text


def test_opencv_agrees():
    """The reference above is Pillow; `cv2.imread` shows the same."""
    for name, data in FILES.items():
        if not name.startswith(("TIFF", "BMP")):
            shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            np.testing.assert_array_equal(decode_image(data, name), shown)
