"""Images as users have them: every mode, broken files, limits; what is read can be written back."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from PIL import features

from refine import images
from refine.errors import InputError

WIDTH, HEIGHT = 48, 32


def gradient() -> PIL.Image.Image:
    """48 × 32, red rises to the right, green downwards."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return PIL.Image.fromarray(np.stack([x * 5, y * 7, np.full_like(x, 90)], axis=2).astype(np.uint8))


def saved(image: PIL.Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def with_alpha() -> PIL.Image.Image:
    image = gradient()
    image.putalpha(PIL.Image.linear_gradient("L").resize(image.size))
    return image


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("L", "a.png"),
        ("LA", "a.png"),
        ("P", "a.png"),
        ("RGBA", "a.png"),
        ("CMYK", "a.tif"),
        ("1", "a.png"),
        ("YCbCr", "a.jpg"),
        ("LAB", "a.tif"),
    ],
)
def test_every_mode_becomes_rgb_and_says_so(mode: str, name: str, tmp_path: Path) -> None:
    source = with_alpha() if mode in {"LA", "RGBA"} else gradient()
    picture = images.read(saved(source.convert(mode), tmp_path / name))
    assert picture.image.mode == "RGB"
    assert picture.image.size == (WIDTH, HEIGHT)
    assert (picture.alpha is not None) == (mode in {"LA", "RGBA"})
    assert picture.notes or name.endswith(".jpg")


def test_a_plain_image_is_unchanged_and_without_notes(tmp_path: Path) -> None:
    picture = images.read(saved(gradient(), tmp_path / "a.png"))
    assert np.array_equal(picture.image, gradient())
    assert picture.notes == ()
    assert picture.alpha is None
    assert len(picture.sha256) == 64


def test_palette_with_transparency_keeps_its_alpha(tmp_path: Path) -> None:
    path = saved(gradient().quantize(16), tmp_path / "a.png", transparency=3)
    assert images.read(path).alpha is not None


def test_alpha_and_colours_below_it_survive_a_round_trip(tmp_path: Path) -> None:
    source = with_alpha()
    picture = images.read(saved(source, tmp_path / "a.png"))
    images.write(picture.image, tmp_path / "b.png", picture)
    with PIL.Image.open(tmp_path / "b.png") as again:
        assert np.array_equal(again, source)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_icc_profile_is_put_back(mode: str, tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = images.read(saved(gradient().convert(mode), tmp_path / "a.png", icc_profile=profile))
    images.write(picture.image, tmp_path / "b.png", picture)
    with PIL.Image.open(tmp_path / "b.png") as again:
        assert again.info["icc_profile"] == profile


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn clockwise
    picture = images.read(saved(gradient(), tmp_path / "a.png", exif=exif.tobytes()))
    assert picture.image.size == (HEIGHT, WIDTH)
    assert np.array_equal(picture.image, gradient().transpose(PIL.Image.Transpose.ROTATE_270))
    assert any("upright" in note for note in picture.notes)


def test_an_image_that_was_turned_upright_is_not_turned_again(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    rdf, tiff = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://ns.adobe.com/tiff/1.0/"
    words = 'tiff:Orientation="6" tiff:Make="X"'
    said = f'<rdf:RDF xmlns:rdf="{rdf}" xmlns:tiff="{tiff}"><rdf:Description {words}/></rdf:RDF>'
    picture = images.read(saved(gradient(), tmp_path / "a.jpg", exif=exif.tobytes(), xmp=said.encode()))
    images.write(picture.image, tmp_path / "b.png", picture)
    again = images.read(tmp_path / "b.png")
    assert np.array_equal(again.image, picture.image)
    assert "tiff:Make" in str(again.xmp)


@pytest.mark.parametrize("suffix", ["jpg", "tif", "webp", *(["avif"] if features.check("avif") else [])])
def test_no_damaged_byte_is_a_traceback(suffix: str, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x010E] = 6, 1.5, "words"
    whole = saved(gradient(), tmp_path / f"a.{suffix}", exif=exif).read_bytes()
    for place in range(min(len(whole), 300)):
        path = tmp_path / f"b.{suffix}"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(InputError), warnings.catch_warnings(action="ignore"):
            images.read(path)
        with warnings.catch_warnings(action="ignore"):
            images.embedded(path)


def test_sixteen_bit_keeps_its_brightness(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
    picture = images.read(saved(PIL.Image.fromarray(levels), tmp_path / "a.png"))
    assert np.abs(np.asarray(picture.image)[..., 0] - levels / 257).max() <= 0.5


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_float_images_are_scaled(scale: float, tmp_path: Path) -> None:
    values = np.linspace(0, scale, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)
    picture = images.read(saved(PIL.Image.fromarray(values), tmp_path / "a.tif"))
    assert np.asarray(picture.image).min() == 0
    assert np.asarray(picture.image).max() == 255


def test_a_float_image_with_nan_is_refused(tmp_path: Path) -> None:
    values = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    with pytest.raises(InputError, match="not finite"):
        images.read(saved(PIL.Image.fromarray(values), tmp_path / "a.tif"))


def test_the_first_frame_of_an_animation_is_used(tmp_path: Path) -> None:
    first, second = PIL.Image.new("RGB", (40, 30), "red"), PIL.Image.new("RGB", (40, 30), "blue")
    picture = images.read(saved(first, tmp_path / "a.gif", save_all=True, append_images=[second]))
    assert picture.image.getpixel((3, 3)) == (254, 0, 0) or picture.image.getpixel((3, 3)) == (255, 0, 0)
    assert picture.notes[0] == "animated: frame 1 of 2 is used"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*cat\.png"):
        images.read(tmp_path / "cat.png")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read"):
        images.read(tmp_path)


def test_text_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(InputError, match="not an image"):
        images.read(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_a_truncated_image_is_refused(name: str, tmp_path: Path) -> None:
    path = saved(gradient().resize((200, 120)), tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=r"truncated|not an image"):
        images.read(path)


def test_one_pixel_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 × 1 pixels; each side must have at least 16"):
        images.read(saved(PIL.Image.new("RGB", (1, 1)), tmp_path / "a.png"))


@pytest.mark.parametrize("side", [8000, 30000])
def test_a_huge_image_is_refused_before_it_is_decoded(side: int, tmp_path: Path) -> None:
    path = saved(PIL.Image.new("1", (side, side)), tmp_path / "a.png")
    with pytest.raises(InputError, match=r"megapixels; .*resize it first|megapixels; the limit is 36\. Resize"):
        images.read(path)


def test_a_folder_gives_its_images_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in images.files([tmp_path])] == ["a.JPG", "b.png"]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        images.files([tmp_path])


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="its file names are UTF-8 or UTF-16 always")
def test_a_file_name_of_another_encoding_is_refused(tmp_path: Path) -> None:
    saved(gradient(), tmp_path / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(InputError, match=r"caf.udce9\.png': the name of the file is not UTF-8\. Rename it"):
        images.files([tmp_path])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_prompt_beside_an_image_is_found(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat\n on a sofa ", encoding=encoding)
    assert images.prompt_of(tmp_path / "a.png") == "a cat on a sofa"
    assert images.prompt_of(tmp_path / "b.png") is None
