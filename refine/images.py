"""Any user's image, read safely: RGB pixels the right way up, alpha apart, notes on what was converted; and written back with all of
its other data.

Nothing is resized: an image beyond the limits is refused with the limit in the message.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
from PIL import ImageOps, PngImagePlugin, UnidentifiedImageError

from refine import metadata
from refine.errors import InputError
from refine.types import Image, Mask

MIN_SIDE = 16
MAX_PIXELS = 36_000_000  # some 40 bytes a pixel are held while an image is worked on
SUFFIXES = frozenset(".png .jpg .jpeg .webp .bmp .tif .tiff .gif .avif .jp2 .ppm .pgm .tga .ico .mpo".split())
TRANSPARENT = frozenset({"RGBA", "LA", "La", "PA", "RGBa"})


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image as it came: RGB, alpha (mode L, same size) or None, ICC profile of its RGB values, what was converted, hash of the file
    ("" where it was none); its texts by name, its EXIF data without the orientation, and its XMP packet.
    """

    image: Image
    alpha: Image | None = None
    icc: bytes | None = None
    notes: tuple[str, ...] = ()
    sha256: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    exif: bytes = b""
    xmp: str | None = None


def read(path: Path) -> Picture:
    """Read one image file. Raises InputError: no such file, not an image, truncated, too small, too large, not finite."""
    digest = _digest(path)
    try:
        with _no_bomb_warning(), PIL.Image.open(path) as opened:
            return take(opened, str(path), digest)
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image that Pillow can read. Save it as PNG or JPEG.") from error
    except PIL.Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large: {error} The limit is {MAX_PIXELS / 1e6:.0f} megapixels; resize it first.") from error
    except InputError:
        raise
    except Exception as error:  # a decoder raises whatever it stumbles over: RuntimeError, TypeError, struct.error, ...
        raise InputError(f"{path} cannot be decoded ({error}): it is truncated or damaged. Get it again or save it anew.") from error


def take(image: Image, name: str, sha256: str = "") -> Picture:
    """The picture of an image that Pillow has opened. Raises InputError: too small, too large, not finite."""
    _check_size(name, image)
    notes = [f"animated: frame 1 of {frames} is used"] if (frames := getattr(image, "n_frames", 1)) > 1 else []
    image.load()
    icc = image.info.get("icc_profile") if image.mode in {"RGB", "RGBA", "P", "PA"} else None
    texts = _texts(image)
    upright = _upright(image, notes)
    xmp = _xmp(upright)  # which names no orientation any more
    exif = upright.getexif().tobytes() if len(upright.getexif()) else b""
    rgb, alpha = _separate(name, upright, notes)
    return Picture(rgb, alpha, icc, tuple(notes), sha256, texts, exif, xmp)


XMP_CHUNK = "XML:com.adobe.xmp"
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286


def _texts(image: Image) -> dict[str, str]:
    """The texts of a PNG file; of other formats the EXIF user comment, under the name that AUTOMATIC1111 gives its content."""
    own = {str(key): str(value) for key, value in getattr(image, "text", {}).items() if key != XMP_CHUNK}
    comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
    if not own and isinstance(comment, bytes) and (said := _comment(comment)):
        own[metadata.PARAMETERS] = said
    return own


def _comment(code: bytes) -> str:
    """An EXIF user comment: eight bytes that name its encoding, then the text. Big or little endian is not said: what is ASCII in it tells,
    by the zeros; without any it is big endian, as AUTOMATIC1111 writes it."""
    head, body = code[:8], code[8:]
    if head.rstrip(b"\0") == b"UNICODE":
        return body.decode("utf-16-be" if body[::2].count(0) >= body[1::2].count(0) else "utf-16-le", errors="replace").strip("\0 ")
    return body.decode("utf-8", errors="replace").strip("\0 ") if head.rstrip(b"\0") in (b"ASCII", b"") else ""


def _xmp(image: Image) -> str | None:
    packet = image.info.get("xmp") or image.info.get(XMP_CHUNK)
    return packet.decode("utf-8", errors="replace") if isinstance(packet, bytes) else packet


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


@contextmanager
def _no_bomb_warning() -> Iterator[None]:
    """Pillow's warning is replaced by our own limit, which is checked before anything is decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        yield


def _check_size(name: str, image: Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{name} is {width} × {height} pixels; each side must have at least {MIN_SIDE}.")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} is {width} × {height} = {width * height / 1e6:.0f} megapixels; the limit is {MAX_PIXELS / 1e6:.0f}. "
            "Resize it first: refine never changes an image's size."
        )


def _upright(image: Image, notes: list[str]) -> Image:
    """The image turned as its EXIF orientation says."""
    turned = ImageOps.exif_transpose(image)
    if image.getexif().get(0x0112, 1) not in (0, 1):
        notes.append("turned upright as its EXIF orientation says")
    return turned


def _separate(name: str, image: Image, notes: list[str]) -> tuple[Image, Image | None]:
    """RGB and alpha of any mode."""
    if image.mode != "RGB":
        notes.append(f"converted from {image.mode} to RGB")
    if image.mode in TRANSPARENT or "transparency" in image.info:
        full = image.convert("RGBA")
        notes.append("alpha is kept apart and put back; models see the colours below it")
        return full.convert("RGB"), full.getchannel("A")
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_levels(name, image, notes), None
    return image.convert("RGB"), None


def _from_levels(name: str, image: Image, notes: list[str]) -> Image:
    """8-bit RGB from a grey image of 16- or 32-bit integers or floats."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{name} has pixels that are not finite numbers. Save it as an 8-bit image.")
    top = _full_scale(values, image.mode)
    if values.min() < 0 or values.max() > top:
        notes.append(f"values from {values.min():g} to {values.max():g} were cut to 0 to {top:g}")
    grey = np.rint(np.clip(values / top, 0, 1) * 255).astype(np.uint8)
    return PIL.Image.fromarray(grey).convert("RGB")


def _full_scale(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], mode: str) -> float:
    """The value that means white: 1 or 255 for floats, 65535 for 16 bit, the 32-bit maximum beyond."""
    high = float(values.max())
    if mode == "F":
        return 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0
    return 65535.0 if mode.startswith("I;16") or high <= 65535 else float(2**31 - 1)


def write(image: Image, path: Path, source: Picture | None = None, texts: Mapping[str, str] | None = None, xmp: str | None = None) -> None:
    """Write a PNG; alpha, ICC profile, EXIF, texts and XMP of the image it came from are put back, except for given ``texts``, ``xmp``."""
    source = source or Picture(image)
    chunks = PngImagePlugin.PngInfo()
    for key, text in (source.texts if texts is None else texts).items():
        chunks.add_itxt(key, text) if not text.isascii() else chunks.add_text(key, text)
    if packet := xmp or source.xmp:
        chunks.add_itxt(XMP_CHUNK, packet)
    more = {"exif": source.exif} if source.exif else {}
    whole(image, source).save(path, format="PNG", icc_profile=source.icc, pnginfo=chunks, **more)


def whole(image: Image, source: Picture) -> Image:
    """The image with the alpha of the picture it came from."""
    if source.alpha is None:
        return image
    full = image.copy()
    full.putalpha(source.alpha)
    return full


def from_mask(mask: Mask) -> Image:
    """A mask as a black and white image (mode 1), white inside."""
    return PIL.Image.fromarray(mask.astype(np.uint8) * 255).convert("1")


def files(paths: Iterable[Path]) -> list[Path]:
    """Image files: each path itself, or the images in a folder, in the order of their names. Raises InputError where there is none, or one
    with a name that no file of ours could hold."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(child for child in path.iterdir() if child.suffix.lower() in SUFFIXES and child.is_file())
        if not inside:
            raise InputError(f"{path} holds no image. Known endings: {' '.join(sorted(SUFFIXES))}.")
        found += inside
    if odd := [path for path in found if not is_utf8(str(path))]:
        raise InputError(f"{str(odd[0])!a}: the name of the file is not UTF-8. Rename it.")
    return found


def is_utf8(text: str) -> bool:
    """False for a text with halves of characters, which Python reads where bytes are in another encoding."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def sidecar(path: Path) -> str | None:
    """The prompt in a text file beside the image (``cat.png`` → ``cat.txt``); None where there is none."""
    note = path.with_suffix(".txt")
    try:
        return " ".join(note.read_text(encoding="utf-8-sig").split()) if note.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the prompt in {note}: {error}. It must be UTF-8 text.") from error


def embedded(path: Path) -> str | None:
    """The prompt in the file's own metadata; None where there is none, or no image."""
    try:
        with _no_bomb_warning(), PIL.Image.open(path) as opened:
            _check_size(str(path), opened)
            opened.load()  # texts may stand behind the pixels
            return metadata.prompt_in(_texts(opened))
    except Exception:
        return None  # what is wrong with the file is said by ``read``


# Where an image's own prompt may be found, in this order.
PROMPT_READERS: tuple[Callable[[Path], str | None], ...] = (sidecar, embedded)


def prompt_of(path: Path) -> str | None:
    """The prompt that belongs to an image file, or None."""
    return next((prompt for reader in PROMPT_READERS if (prompt := reader(path))), None)
