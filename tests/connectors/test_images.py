"""Pictures of every kind come out as upright RGB; damaged ones as a failure in their own place."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from aidb_connectors.images import Images, decode
from PIL import Image, ImageOps

from aidb.errors import ProgrammingError, UnknownName
from aidb.spi import ItemFailure, Options, Ref, Scan

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (6, 9, 3), np.uint8)


def read(path: Path, **kw) -> object:
    (result,) = Images().read([Ref(str(path), None, "image", "images")], **kw)
    return result


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_lossless_formats_are_exact(format_):
    options = {"irreversible": False} if format_ == "JPEG2000" else {}
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(RGB), format_, **options)), RGB)


@pytest.mark.parametrize("shape", [(1025, 1024, 3), (3, 1_200_000, 3)])
def test_a_picture_that_is_read_in_bands_is_exact(shape):
    rgb = RNG.integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(rgb), "BMP")), rgb)


def test_lossless_webp_is_exact():
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(RGB), "WEBP", lossless=True)), RGB)


def test_jpeg_is_decoded_in_full():
    data = encoded(Image.fromarray(np.kron(RGB, np.ones((40, 40, 1), np.uint8))), "JPEG")
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_grey_palette_and_bilevel():
    grey = RGB[..., 0]
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(grey), "PNG")), np.stack([grey] * 3, 2))
    two = Image.fromarray(grey > 127)
    np.testing.assert_array_equal(decode(encoded(two, "PNG")), np.stack([(grey > 127) * np.uint8(255)] * 3, 2))
    palette = Image.fromarray(RGB).quantize(4)
    np.testing.assert_array_equal(decode(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_sixteen_bits_are_scaled_not_clipped():
    deep = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(deep), "PNG"))[0, :, 0], [0, 0, 1, 128, 255])
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(deep), "TIFF"))[0, :, 2], [0, 0, 1, 128, 255])
    floats = np.array([[0, 0.5, 1.0]], np.float32)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(floats), "TIFF"))[0, :, 0], [0, 128, 255])
    bytes_ = np.array([[0, 128.4, 300, np.nan]], np.float32)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(bytes_), "TIFF"))[0, :, 0], [0, 128, 255, 0])


def test_transparency_lies_on_white():
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    expected = [[10, 20, 30], [255, 255, 255], [127, 127, 127]]
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(rgba), "PNG"))[0], expected)
    grey = Image.fromarray(np.array([[[7, 255], [7, 0]]], np.uint8), "LA")
    np.testing.assert_array_equal(decode(encoded(grey, "PNG"))[0], [[7] * 3, [255] * 3])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([9, 8, 7, 1, 2, 3])
    np.testing.assert_array_equal(decode(encoded(palette, "PNG", transparency=1))[0], [[9, 8, 7], [255] * 3])


def test_cmyk():
    image = Image.fromarray(np.kron(RGB, np.ones((16, 16, 1), np.uint8))).convert("CMYK")
    data = encoded(image, "JPEG")
    result = decode(data)
    np.testing.assert_array_equal(result, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_of_an_animation_the_first_picture():
    frames = [Image.fromarray(np.full((4, 5, 3), v, np.uint8)) for v in (0, 100, 200)]
    for format_ in ("GIF", "PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if format_ == "WEBP" else {}
        data = encoded(frames[0], format_, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(decode(data), np.zeros((4, 5, 3)), format_)
    mpo = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert decode(mpo).shape == (4, 5, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation_and_size_agree(tmp_path, orientation, format_):
    image = Image.fromarray(np.kron(RGB, np.ones((8, 8, 1), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{format_.lower()}"
    path.write_bytes(encoded(image, format_, exif=exif))
    result = read(path)
    expected = ImageOps.exif_transpose(Image.open(path).convert("RGB") if format_ != "TIFF" else Image.open(path))
    np.testing.assert_array_equal(result, np.asarray(expected))
    assert result.shape[:2] == ((48, 72) if orientation < 5 else (72, 48))
    (row,) = Images().items(Scan(str(path)))
    assert (row["height"][0].as_py(), row["width"][0].as_py()) == result.shape[:2]


def test_nonsense_in_exif_does_no_harm():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert decode(encoded(Image.fromarray(RGB), "PNG", exif=exif)).shape == RGB.shape
    data = encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0garbage-garbage")
    assert decode(data).shape == RGB.shape


def test_the_extension_does_not_matter(tmp_path):
    path = tmp_path / "really a png.jpg"
    path.write_bytes(encoded(Image.fromarray(RGB), "PNG"))
    np.testing.assert_array_equal(read(path), RGB)
    outright = path.rename(tmp_path / "picture")
    (batch,) = Images().items(Scan(str(outright)))
    (result,) = Images().read([Ref(**r) for r in batch["image"].to_pylist()])
    np.testing.assert_array_equal(result, RGB)


def huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"not an image, no more than this is", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (encoded(Image.fromarray(RGB), "PNG")[:60], "decode"),
        (encoded(Image.fromarray(np.kron(RGB, np.ones((20, 20, 1), np.uint8))), "JPEG")[:-300], "truncated"),
        (huge_png(60_000, 60_000), "too many pixels"),
        (huge_png(12_000, 9_000), "pixels"),  # 108 million: Pillow warns, and tests take warnings as errors
    ],
)
def test_damaged_files_fail_alone(tmp_path, data, message):
    bad, good = tmp_path / "bad.jpg", tmp_path / "good.png"
    bad.write_bytes(data)
    good.write_bytes(encoded(Image.fromarray(RGB), "PNG"))
    refs = [Ref(str(path), None, "image", "images") for path in (good, bad, good)]
    first, broken, last = Images().read(refs)
    assert isinstance(broken, ItemFailure)
    assert message in broken.message
    np.testing.assert_array_equal(first, RGB)
    np.testing.assert_array_equal(last, RGB)
    batches = list(Images().items(Scan(str(tmp_path))))  # listed nevertheless
    assert sum(b.num_rows for b in batches) == 2


def test_a_vanished_file_says_so(tmp_path):
    result = read(tmp_path / "gone.png")
    assert isinstance(result, ItemFailure)
    assert "No such file" in result.message
    assert "directory" in read(tmp_path).message


def test_max_pixels_travels_with_the_reference(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(RGB), "PNG"))
    for limit, fine in ((54, True), (53, False)):
        (batch,) = Images().items(Scan(str(tmp_path), Options({"max_pixels": limit})))
        assert batch["file"].to_pylist() == [str(path)]
        (result,) = Images().read([Ref(**r) for r in batch["image"].to_pylist()])
        assert isinstance(result, np.ndarray) == fine


def test_header_option(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(RGB), "PNG"))
    for options, size in (({}, 9), ({"header": True}, 9), ({"header": False}, None)):
        (batch,) = Images().items(Scan(str(tmp_path), Options(options)))
        assert batch["width"][0].as_py() == size


def test_encoded_gives_the_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(data := encoded(Image.fromarray(RGB), "PNG"))
    assert read(path, encoded=True) == data


@pytest.mark.parametrize(
    "options", [{"header": "yes"}, {"max_pixels": 0}, {"max_pixels": 2.5}, {"max_pixels": True}, {"max_pixels": 10**12}]
)
def test_options_are_checked(tmp_path, options):
    with pytest.raises(ProgrammingError, match=next(iter(options))):
        Images().schema(Scan(str(tmp_path), Options(options)))
    with pytest.raises(UnknownName, match="did you mean header"):
        Images().schema(Scan(str(tmp_path), Options({"heeder": True})))


def test_over_the_web_headers_cost_requests_only_when_asked_for(tmp_path, serve, rows):
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(RGB), "PNG"))
    server = serve()
    (row,) = rows(Images(), f"{server.url}/a.png")
    assert (row["width"], row["size"]) == (None, (tmp_path / "a.png").stat().st_size)
    assert {method for method, *_ in server.requests} == {"HEAD"}
    (row,) = rows(Images(), f"{server.url}/a.png", header=True)
    assert (row["width"], row["height"]) == (9, 6)
    (result,) = Images().read([Ref(**row["image"])])
    np.testing.assert_array_equal(result, RGB)


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_random_damage_never_raises(tmp_path, format_):
    data = encoded(Image.fromarray(np.kron(RGB, np.ones((6, 6, 1), np.uint8))), format_)
    rng = np.random.default_rng(3)
    refs = []
    for i in range(100):
        hurt = bytearray(data)
        if i % 2:
            del hurt[int(rng.integers(len(hurt))) :]
        else:
            for at in rng.integers(len(hurt), size=3):
                hurt[at] ^= int(rng.integers(1, 256))
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(hurt)
        refs.append(Ref(str(path), None, "image", "images"))
    results = list(Images().read(refs))
    assert len(results) == 100
    assert all(isinstance(r, ItemFailure) or (r.dtype == np.uint8 and r.ndim == 3) for r in results)
    assert 20 < sum(isinstance(r, ItemFailure) for r in results) <= 100
