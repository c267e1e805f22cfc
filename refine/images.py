"""Any user's image, read safely: RGB pixels the right way up, alpha apart, and notes on what was converted; and written back.

Nothing is resized: an image beyond the limits is refused with the limit in the message.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from PIL import ImageOps, UnidentifiedImageError

from refine.errors import InputError
from refine.types import Image, Mask

MIN_SIDE = 16
MAX_PIXELS = 36_000_000  # some 40 bytes a pixel are held while an image is worked on
SUFFIXES = frozenset(".png .jpg .jpeg .webp .bmp .tif .tiff .gif .avif .jp2 .ppm .pgm .tga .ico .mpo".split())
TRANSPARENT = frozenset({"RGBA", "LA", "La", "PA", "RGBa"})


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image as it came: RGB, alpha (mode L, same size) or None, ICC profile of its RGB values, what was converted, hash of the file."""

    image: Image
    alpha: Image | None
    icc: bytes | None
    notes: tuple[str, ...]
    sha256: str


def read(path: Path) -> Picture:
    """Read one image file. Raises InputError: no such file, not an image, truncated, too small, too large, not finite."""
    digest = _digest(path)
    try:
        with _no_bomb_warning(), PIL.Image.open(path) as opened:
            _check_size(path, opened)
            notes = [f"animated: frame 1 of {frames} is used"] if (frames := getattr(opened, "n_frames", 1)) > 1 else []
            opened.load()
            icc = opened.info.get("icc_profile") if opened.mode in {"RGB", "RGBA"} else None
            image, alpha = _separate(path, _upright(opened, notes), notes)
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image that Pillow can read. Save it as PNG or JPEG.") from error
    except PIL.Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large: {error} The limit is {MAX_PIXELS / 1e6:.0f} megapixels; resize it first.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be decoded ({error}): it is truncated or damaged. Get it again or save it anew.") from error
    return Picture(image, alpha, icc, tuple(notes), digest)


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


def _check_size(path: Path, image: Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{path} is {width} × {height} pixels; each side must have at least {MIN_SIDE}.")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path} is {width} × {height} = {width * height / 1e6:.0f} megapixels; the limit is {MAX_PIXELS / 1e6:.0f}. "
            "Resize it first: refine never changes an image's size."
        )


def _upright(image: Image, notes: list[str]) -> Image:
    """The image turned as its EXIF orientation says."""
    turned = ImageOps.exif_transpose(image)
    if image.getexif().get(0x0112, 1) not in (0, 1):
        notes.append("turned upright as its EXIF orientation says")
    return turned


def _separate(path: Path, image: Image, notes: list[str]) -> tuple[Image, Image | None]:
    """RGB and alpha of any mode."""
    if image.mode != "RGB":
        notes.append(f"converted from {image.mode} to RGB")
    if image.mode in TRANSPARENT or "transparency" in image.info:
        full = image.convert("RGBA")
        notes.append("alpha is kept apart and put back; models see the colours below it")
        return full.convert("RGB"), full.getchannel("A")
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_levels(path, image, notes), None
    return image.convert("RGB"), None


def _from_levels(path: Path, image: Image, notes: list[str]) -> Image:
    """8-bit RGB from a grey image of 16- or 32-bit integers or floats."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{path} has pixels that are not finite numbers. Save it as an 8-bit image.")
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


def write(image: Image, path: Path, source: Picture | None = None) -> None:
    """Write a PNG; alpha and ICC profile of the image it came from are put back."""
    full = image
    if source is not None and source.alpha is not None:
        full = image.copy()
        full.putalpha(source.alpha)
    full.save(path, format="PNG", icc_profile=source.icc if source else None)


def from_mask(mask: Mask) -> Image:
    """A mask as a black and white image (mode 1), white inside."""
    return PIL.Image.fromarray(mask.astype(np.uint8) * 255).convert("1")


def files(paths: Iterable[Path]) -> list[Path]:
    """Image files: each path itself, or the images in a folder, in the order of their names. Raises InputError where there is none."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(child for child in path.iterdir() if child.suffix.lower() in SUFFIXES and child.is_file())
        if not inside:
            raise InputError(f"{path} holds no image. Known endings: {' '.join(sorted(SUFFIXES))}.")
        found += inside
    return found


def sidecar(path: Path) -> str | None:
    """The prompt in a text file beside the image (``cat.png`` → ``cat.txt``); None where there is none."""
    note = path.with_suffix(".txt")
    try:
        return " ".join(note.read_text(encoding="utf-8").split()) if note.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the prompt in {note}: {error}. It must be UTF-8 text.") from error


# Where an image's own prompt may be found, in this order.
PROMPT_READERS: tuple[Callable[[Path], str | None], ...] = (sidecar,)


def prompt_of(path: Path) -> str | None:
    """The prompt that belongs to an image file, or None."""
    return next((prompt for reader in PROMPT_READERS if (prompt := reader(path))), None)
