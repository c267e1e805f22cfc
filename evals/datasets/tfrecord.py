"""TFRecord files of ``tf.train.Example``, read without TensorFlow.

A record is: its length (uint64), the masked CRC-32C of these 8 bytes (uint32), the payload, the masked CRC-32C of the payload; all little
endian. An Example is a protocol buffer, ``{1: {1: [{1: name, 2: {1: bytes | 2: floats | 3: ints}}]}}``. Only what RichHF-18K needs is
decoded: features of bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refine.errors import InputError

POINTER = b"version https://git-lfs"
POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected
MASK_DELTA = 0xA282EAD8


def _table() -> tuple[int, ...]:
    rows = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ POLYNOMIAL if value & 1 else value >> 1
        rows.append(value)
    return tuple(rows)


TABLE = _table()


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a record's payload lies in its file, in bytes."""

    offset: int
    length: int


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of the bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """A checksum as TFRecord stores it: rotated by 15 bits, plus a constant."""
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def slots(path: Path) -> list[Slot]:
    """Every record of a file; payloads are skipped. Raises InputError for another kind of file, or one that is cut short."""
    found: list[Slot] = []
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise InputError(f"{path} is a Git LFS pointer, not the data. Fetch it with: git lfs pull")
            at = 0
            while at < size:
                file.seek(at)
                head = file.read(12)
                if len(head) < 12 or struct.unpack("<I", head[8:])[0] != masked(crc32c(head[:8])):
                    raise InputError(f"{path} is no TFRecord file, or is damaged at byte {at} (record {len(found)}). Download it again.")
                length = struct.unpack("<Q", head[:8])[0]
                if at + 16 + length > size:
                    raise InputError(f"{path} ends within record {len(found)}: it was cut short. Download it again.")
                found.append(Slot(at + 12, length))
                at += 16 + length
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    return found


def payload(path: Path, slot: Slot, check: bool = True) -> bytes | None:
    """The bytes of one record; None where ``check`` finds that they do not fit their checksum."""
    with path.open("rb") as file:
        file.seek(slot.offset)
        data, crc = file.read(slot.length), file.read(4)
    return data if not check or struct.unpack("<I", crc)[0] == masked(crc32c(data)) else None


def features(example: bytes) -> dict[str, bytes]:
    """The features of an Example that hold bytes, the first value of each. Raises ValueError where it is no Example."""
    found: dict[str, bytes] = {}
    for feature_map in _fields(example, 1):
        for pair in _fields(feature_map, 1):
            name = next(iter(_fields(pair, 1)), b"").decode()
            for feature in _fields(pair, 2):
                for values in _fields(feature, 1):
                    found[name] = next(iter(_fields(values, 1)), b"")
    return found


def _fields(message: bytes, number: int) -> Iterator[bytes]:
    """The values of a message's length-delimited fields with this number; the other fields are skipped."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field reaches beyond its message")
            if tag >> 3 == number:
                yield message[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} is not used by Example")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number in base 128, low group first, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("a number does not end")
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
