"""What a published checkpoint holds: every tensor under the model's name for it, counted per module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from refine.controllers.legion import lora
from refine.controllers.legion.files import State
from refine.controllers.legion.names import rename


@dataclass(frozen=True, slots=True)
class Report:
    """What a checkpoint held, per module: tensors, bytes, keys left out, keys that were missing, tensors another file had too."""

    tensors: Mapping[str, int] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    unused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    replaced: Mapping[str, int] = field(default_factory=dict)
    lora: str = ""

    def __str__(self) -> str:
        lines = [f"{m}: {n} tensors, {self.bytes[m] / 1e6:.1f} MB" for m, n in sorted(self.tensors.items())]
        lines += [f"{m}: {len(keys)} tensors not used, such as {keys[0]}" for m, keys in sorted(self.unused.items()) if keys]
        lines += [f"{m}: {len(keys)} tensors missing, such as {keys[0]}" for m, keys in sorted(self.missing.items()) if keys]
        lines += [f"{m}: {n} tensors stand in two files; the checkpoint's own are taken" for m, n in sorted(self.replaced.items())]
        return "\n".join([*lines, *([f"LoRA: {self.lora}"] if self.lora else [])])


@dataclass(slots=True)
class Census:
    """Headers, sorted out: where each tensor of the model lies, and what else there is. Of two with one name the later file's counts."""

    owner: dict[str, tuple[Path, str, Tensor]] = field(default_factory=dict)
    inserts: list[tuple[Path, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    unused: dict[str, tuple[str, ...]] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    rotary: int | None = None  # columns of half a head, where the rotary frequencies are stored

    def add(self, file: Path, key: str, value: Tensor) -> None:
        if lora.MARK in key:
            self.inserts.append((file, key))
            return
        module, name = rename(lora.plain(key))
        if key.endswith("rotary_emb.inv_freq"):
            self.rotary = value.shape[0]
        if name in self.owner:
            self.replaced[module] = self.replaced.get(module, 0) + 1
            self._count(module, self.owner.pop(name)[2], -1)
        self._count(module, value, 1)
        if name is None:
            self.unused[module] = (*self.unused.get(module, ()), key)
        else:
            self.owner[name] = (file, key, value)

    def _count(self, module: str, value: Tensor, sign: int) -> None:
        self.counts[module] = self.counts.get(module, 0) + sign
        self.bytes[module] = self.bytes.get(module, 0) + sign * value.numel() * value.element_size()

    @property
    def state(self) -> State:
        """Shapes by the model's names, in the order the files are read."""
        return {name: value for name, (_, _, value) in self.owner.items()}

    def report(self) -> Report:
        return Report(self.counts, self.bytes, self.unused, {}, self.replaced)
