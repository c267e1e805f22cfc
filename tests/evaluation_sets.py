"""Small folders in the layouts in which the evaluation sets were released, broken entries included."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from refine.evals.datasets.tfrecord import crc32c, masked

SIZE = (40, 30)  # width, height: not square


def jpeg(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    """A picture of random grey levels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(path)


def ref(points: Sequence[float] | None, sentence: str = "the hand", explanation: str = "It has six fingers.") -> dict[str, Any]:
    return {"sentence": sentence, "explanation": explanation, "bbox": None, "segmentation": [points] if points is not None else None}


SQUARE = [2, 2, 11, 2, 11, 9, 2, 9]  # its pixels: 10 × 8


def entry(key: str, name: str, refs: Sequence[object], **more: object) -> dict[str, Any]:
    caption = f'"Upon examining the image. I have found: entry {key}."'
    return {key: {"caption": caption, "img_file_name": f"/some/cluster/images/{name}", "refs": refs, **more}}


def synthscars(root: Path, entries: Sequence[object], images: Sequence[str] = (), folder: str = "test/annotations") -> Path:
    """Annotations of the test split in ``folder``, and pictures under test/images."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "test.json").write_text(json.dumps(entries), encoding="utf-8")
    for number, name in enumerate(images):
        jpeg(root / "test" / "images" / name, number)
    return root


def loki(root: Path, entries: Sequence[object], images: Sequence[str] = ()) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "open_ended_vqa.json").write_bytes(json.dumps(entries).encode("utf-16"))
    for number, name in enumerate(images):
        jpeg(root / name, number)
    return root


def universal(root: Path, folders: Mapping[str, int]) -> Path:
    """``count`` pictures in each folder; its name starts their seeds, so no two are alike."""
    for name, count in folders.items():
        for number in range(count):
            jpeg(root / name / f"{number}.png", hash_of(f"{name}{number}"))
    return root


def hash_of(text: str) -> int:
    return crc32c(text.encode())


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(values: Mapping[str, bytes | float]) -> bytes:
    """A ``tf.train.Example`` with features of one value: bytes, or a packed float."""

    def feature(value: bytes | float) -> bytes:
        return field(1, field(1, value)) if isinstance(value, bytes) else field(2, field(1, struct.pack("<f", value)))

    pairs = (field(1, field(1, name.encode()) + field(2, feature(value))) for name, value in values.items())
    return field(1, b"".join(pairs))


def record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked(crc32c(length))) + payload + struct.pack("<I", masked(crc32c(payload)))


def heat_map(box: tuple[int, int, int, int], level: int = 1) -> bytes:
    """A 512 × 512 PNG, ``level`` inside the box (x0, y0, x1, y1), 0 elsewhere."""
    pixels = np.zeros((512, 512), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = level
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def richhf(root: Path, payloads: Sequence[bytes], images: Mapping[str, tuple[int, int]]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "test.tfrecord").write_bytes(b"".join(map(record, payloads)))
    for number, (name, size) in enumerate(images.items()):
        jpeg(root / "images" / name, number, size)
    return root
