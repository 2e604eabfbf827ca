import warnings
from io import BytesIO

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from pydyn.data.decoding import decode, decode_all

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def encoded(image, kind="PNG", **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def colour(shape=(6, 8)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))


def test_plain_images_keep_their_pixels():
    assert np.array_equal(decode(encoded(Image.fromarray(RAMP)), None, None)[..., 0], RAMP)
    image = colour()
    assert np.array_equal(decode(encoded(image), None, None), np.asarray(image))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(kind):
    wide = RAMP.astype(np.uint16) * 257
    assert np.array_equal(decode(encoded(Image.fromarray(wide), kind), None, None)[..., 0], RAMP)


def test_sixteen_bit_pgm():
    pgm = b"P5 2 1 65535\n" + np.array([257 * 200, 65535], dtype=">u2").tobytes()
    assert decode(pgm, None, None).ravel().tolist() == [200, 255]


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "1", "L", "LA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_converts(mode, channels):
    pixels = decode(encoded(colour().convert(mode), "TIFF" if mode == "CMYK" else "PNG"), None, channels)
    assert pixels.shape == (6, 8, channels)
    assert pixels.dtype == np.uint8


def test_palette_becomes_its_colours():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image), None, None).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_a_palette_with_transparency_is_decoded_without_a_warning_that_names_no_file():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    file = BytesIO()
    palette.save(file, "PNG", transparency=bytes([0, 128]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (blue,) = decode_all([file.getvalue()], None, 3)
    assert np.array_equal(blue, np.full((4, 4, 3), (0, 0, 255)))


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, to be shown turned clockwise
    image = colour((6, 8))
    pixels = decode(encoded(image, exif=exif), None, None)
    assert np.array_equal(pixels, np.rot90(np.asarray(image), -1))


def test_resizing_gives_height_and_width():
    assert decode(encoded(colour((40, 30))), (10, 20), None).shape == (10, 20, 3)


def test_reduction_is_anti_aliased():
    checkers = np.indices((64, 64)).sum(0) % 2 * 255
    reduced = decode(encoded(Image.fromarray(checkers.astype(np.uint8))), (8, 8), None)
    assert np.abs(reduced.astype(int) - 127).max() < 20


def test_order_is_kept_and_the_first_decides_the_channels():
    images = [colour((6, 8)).resize((8 + i % 3, 6)) for i in range(200)]
    outcomes = list(decode_all((encoded(image) for image in images), None, None))
    assert all(np.array_equal(outcome, np.asarray(image)) for outcome, image in zip(outcomes, images, strict=True))
    mixed = list(decode_all([encoded(colour().convert("L")), encoded(colour())], None, None))
    assert [outcome.shape[2] for outcome in mixed] == [1, 1]


@pytest.mark.parametrize(
    "spoilt",
    [b"", b"no image", encoded(colour((64, 64)))[:500], encoded(colour((64, 64)), "JPEG")[:700]],
    ids=["empty", "text", "cut png", "cut jpeg"],
)
def test_unreadable_images_become_reasons(spoilt):
    good = encoded(colour())
    outcomes = list(decode_all([spoilt, good, spoilt, good], None, None))
    assert [isinstance(outcome, str) for outcome in outcomes] == [True, False, True, False]
    assert outcomes[0]


def test_the_reason_is_the_same_each_time():
    outcomes = [next(decode_all([b"no image"], None, None)) for _ in range(2)]
    assert outcomes == ["no image of a format that can be read"] * 2


def test_absurdly_large_images_are_unreadable(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (warned,) = decode_all([encoded(colour((11, 11)))], None, None)
    (refused,) = decode_all([encoded(colour((30, 30)))], None, None)
    assert "decompression bomb" in warned
    assert "decompression bomb" in refused


def test_postscript_called_an_image_starts_no_program(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {ran}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # whether one was found before
    file = tmp_path / "image.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    assert [type(outcome) for outcome in decode_all([file, encoded(colour(), "WEBP")], None, 3)] == [str, np.ndarray]
    assert not ran.exists()


def test_float_pixels_are_unreadable():
    with pytest.raises(ValueError, match="no agreed range"):
        decode(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), None, None)


def test_no_more_is_read_ahead_than_a_window():
    read = 0

    def payloads():
        nonlocal read
        for _ in range(5000):
            read += 1
            yield image

    image = encoded(colour())
    outcomes = decode_all(payloads(), None, None)
    for _ in range(2):
        next(outcomes)
    assert read < 1000
