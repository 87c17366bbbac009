"""Image files as phones, cameras and programs write them: read as a person would see them, or refused in one line."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from lib.data.images import read_image, resize_image
from lib.errors import UserError

TURNED = {  # EXIF orientation -> what a camera held that way stores of an upright image
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
SHORT, RATIONAL, SIGNED_RATIONAL = 3, 5, 10  # types of EXIF values


@pytest.fixture
def photo() -> Image.Image:
    """Red below, green at the upper left, dark elsewhere: a wrong turn or a lost channel shows."""
    pixels = np.zeros((60, 40, 3), np.uint8)
    pixels[30:, :, 0] = 200
    pixels[:30, :20, 1] = 200
    return Image.fromarray(pixels)


def difference(first: Image.Image, second: Image.Image) -> float:
    """Mean of the absolute differences, in levels of 255."""
    return float(np.abs(np.asarray(first, float) - np.asarray(second, float)).mean())


def exif(*entries: tuple[int, int, bytes]) -> bytes:
    """EXIF data of (tag, type, value) as a camera writes them; values of more than 4 bytes lie behind the entries."""
    table, behind = struct.pack("<H", len(entries)), b""
    for tag, kind, value in entries:
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", 14 + 12 * len(entries) + len(behind))
        behind += value if len(value) > 4 else b""
        table += struct.pack("<HHI", tag, kind, 1) + place
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + table + struct.pack("<I", 0) + behind


def orientation(value: int) -> tuple[int, int, bytes]:
    return ExifTags.Base.Orientation, SHORT, struct.pack("<H", value)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("RGB", "a.jpg"), ("RGB", "a.png"), ("RGB", "a.ppm"), ("RGB", "a.tif"), ("RGB", "a.webp"), ("RGB", "a.jp2"),
     ("RGB", "a.bmp"), ("RGB", "a.mpo"), ("RGB", "an image.jpg.png"), ("RGBA", "a.png"), ("P", "a.gif"), ("P", "a.png"),
     ("LA", "a.png"), ("L", "a.jpg"), ("1", "a.png")],
)  # fmt: skip
def test_ordinary_kinds_are_read_as_they_are_without_a_note(
    photo: Image.Image, tmp_path: Path, mode: str, name: str
) -> None:
    stored = photo.convert(mode)
    if name.endswith("mpo"):
        stored.save(tmp_path / name, save_all=True, append_images=[stored])
    else:
        stored.save(tmp_path / name)
    image, notes = read_image(tmp_path / name)
    assert image.mode == "RGB" and notes == []
    assert difference(image, stored.convert("RGB")) < 5


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("value", TURNED)
def test_photo_is_turned_as_the_camera_says(photo: Image.Image, tmp_path: Path, name: str, value: int) -> None:
    turn = TURNED[value]
    stored = photo if turn is None else photo.transpose(turn)
    data = Image.Exif()
    data[ExifTags.Base.Orientation] = value
    stored.save(tmp_path / name, exif=data)
    image, notes = read_image(tmp_path / name)
    assert image.size == photo.size and difference(image, photo) < 5 and notes == []


@pytest.mark.parametrize(
    "entry",
    [
        (ExifTags.Base.XResolution, SIGNED_RATIONAL, struct.pack("<ii", -1, 0)),
        (ExifTags.Base.DateTime, RATIONAL, struct.pack("<II", 1, 2)),
        (ExifTags.Base.ExifOffset, 4, struct.pack("<I", 1 << 30)),
        (ExifTags.Base.MakerNote, 77, b"\1\2\3\4"),
    ],
    ids=["resolution -1/0", "date as a fraction", "offset beyond the end", "unknown type"],
)
def test_other_entries_do_not_keep_a_photo_from_being_turned(
    photo: Image.Image, tmp_path: Path, entry: tuple[int, int, bytes]
) -> None:
    stored = photo.transpose(Image.Transpose.ROTATE_90)
    for name in ("a.jpg", "a.png", "a.webp"):
        stored.save(tmp_path / name, exif=exif(orientation(6), entry))
        image, notes = read_image(tmp_path / name)
        assert image.size == photo.size and difference(image, photo) < 5 and notes == []


@pytest.mark.parametrize(
    ("data", "damaged"),
    [
        (exif(orientation(0)), False),
        (exif(orientation(9)), True),
        (exif((ExifTags.Base.Orientation, 2, b"6\0"))[:-4], True),
        (exif(orientation(6))[:20], True),
        (b"Exif\0\0MM\0", True),
        (b"Exif\0\0 no EXIF at all", True),
    ],
    ids=["unknown to the camera", "no such turn", "text", "cut off", "only its beginning", "not EXIF"],
)
def test_photo_with_damaged_exif_is_shown_as_it_is_stored_and_says_so(
    photo: Image.Image, tmp_path: Path, data: bytes, damaged: bool
) -> None:
    photo.save(tmp_path / "a.jpg", exif=data)
    image, notes = read_image(tmp_path / "a.jpg")
    assert difference(image, photo) < 5
    assert [note for note in notes if "EXIF data are damaged" in note] == notes and len(notes) == damaged


def ramp(top: float, kind: Any) -> np.ndarray:
    return np.linspace(0, top, 32).astype(kind).reshape(4, 8)


@pytest.mark.parametrize(
    ("top", "kind", "name", "note"),
    [(2**bits - 1, np.uint16, "a.png", bits < 16) for bits in (8, 10, 12, 14, 16)]
    + [(4095, np.uint16, "a.tif", True), (65_535, np.int32, "a.tif", False), (4095, np.int32, "a.tif", True)]
    + [(top, np.float32, "a.tif", True) for top in (1, 255, 65_535)],
)
def test_deep_and_real_levels_reach_white_and_a_note_says_what_was_assumed(
    tmp_path: Path, top: int, kind: Any, name: str, note: bool
) -> None:
    levels = ramp(top, kind)
    Image.fromarray(levels).save(tmp_path / name)
    image, notes = read_image(tmp_path / name)
    np.testing.assert_allclose(np.asarray(image)[..., 0], levels.astype(float) * 255 / top, atol=0.51)
    assert len(notes) == note and all(f"{top:,} was taken for white" in told for told in notes)


def test_levels_whose_header_says_what_white_is_need_no_note(tmp_path: Path) -> None:
    levels = ramp(1000, np.uint16)  # dark: of 4095
    (tmp_path / "a.pgm").write_bytes(b"P5 8 4 4095\n" + levels.astype(">u2").tobytes())
    image, notes = read_image(tmp_path / "a.pgm")
    np.testing.assert_allclose(np.asarray(image)[..., 0], levels.astype(float) * 255 / 4095, atol=1)
    assert notes == []


@pytest.mark.parametrize(
    ("levels", "kind"),
    [([-0.5, 1], "f4"), ([np.nan, 1], "f4"), ([0, 1e6], "f4"), ([-1, 5], "i4"), ([0, 70_000], "i4")],
)
def test_levels_without_a_meaning_are_refused(tmp_path: Path, levels: list[float], kind: str) -> None:
    Image.fromarray(np.array([levels], kind)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: its grey levels are from \S+ to \S+; scale them to 8 bits"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(("top", "told"), [(65_535, False), (4095, True)])
def test_colours_of_few_bits_in_sixteen_are_called_dark(tmp_path: Path, top: int, told: bool) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + np.full((8, 3), top, ">u2").tobytes() for _ in range(4))
    header = struct.pack(">IIBBBBB", 8, 4, 16, 2, 0, 0, 0)  # 16 bits, RGB
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    image, notes = read_image(tmp_path / "a.png")
    assert np.asarray(image).max() == top >> 8
    assert len(notes) == told and all("16 bits per channel" in note for note in notes)


def clear(photo: Image.Image, mode: str) -> Image.Image:
    image = photo.convert("RGBA")
    image.putalpha(0)
    return image.quantize() if mode == "P" else image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "name"), [("RGBA", "a.png"), ("RGBA", "a.webp"), ("RGBA", "a.tif"), ("LA", "a.png"), ("P", "a.png")]
)
def test_transparent_parts_become_grey(photo: Image.Image, tmp_path: Path, mode: str, name: str) -> None:
    clear(photo, mode).save(tmp_path / name)
    image, notes = read_image(tmp_path / name)
    assert (np.asarray(image) == 128).all() and notes == []


def test_transparent_colour_becomes_grey(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "a.png", transparency=(200, 0, 0))
    image, _ = read_image(tmp_path / "a.png")
    assert image.getpixel((30, 50)) == (128, 128, 128) and image.getpixel((5, 5)) == (0, 200, 0)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_first_frame_of_several_is_read_and_a_note_says_so(photo: Image.Image, tmp_path: Path, name: str) -> None:
    photo.save(tmp_path / name, save_all=True, append_images=[Image.new("RGB", photo.size, "white")])
    image, (note,) = read_image(tmp_path / name)
    assert difference(image, photo) < 10 and "several frames or pages" in note


def test_colours_for_print_come_with_a_note(photo: Image.Image, tmp_path: Path) -> None:
    photo.convert("CMYK").save(tmp_path / "a.jpg")
    image, (note,) = read_image(tmp_path / "a.jpg")
    assert difference(image, photo) < 5 and "CMYK" in note


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.ppm", "a.tif", "a.webp", "a.gif", "a.bmp", "a.jp2"])
def test_truncated_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for size in (len(content) // 2, 40, 3):
        (tmp_path / name).write_bytes(content[:size])
        with pytest.raises(UserError, match="is not a") as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\0\0\0\x18ftypheic", b"<svg/>", b"GIF89a"],
    ids=["empty", "EPS, which Pillow hands to Ghostscript", "HEIC", "SVG", "no more than its name"],
)
def test_what_is_not_an_image_is_refused_with_the_formats_that_are_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"give a JPEG, PNG, WebP, TIFF or PPM file"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(("side", "complaint"), [(6000, r"6000 x 6000 pixels; at most"), (30_000, "than the")])
def test_limit_of_pixels_is_checked_before_decoding(tmp_path: Path, side: int, complaint: str) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6\n%d %d\n255\n" % (side, side))  # decoding has another message
    with pytest.raises(UserError, match=rf"{complaint} 25,000,000"):
        read_image(tmp_path / "a.ppm")


def test_only_what_was_read_as_rgb_is_resized() -> None:
    with pytest.raises(ValueError, match="of mode RGBA, not RGB"):
        resize_image(Image.new("RGBA", (40, 40)))
