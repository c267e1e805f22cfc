"""LoRA inserts of an un-merged training export, folded into the weights they stand on: W + (alpha / r) · B A (Hu et al. 2021, eq. 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from refine.controllers.legion.files import read_json
from refine.errors import CheckpointError

ALPHA = 16.0  # of the original's training script, whose r is 8; r is read from the inserts
MARK = ".lora_"


@dataclass(frozen=True, slots=True, eq=False)
class Insert:
    """A (r, in), B (out, r), and the number their product is multiplied with."""

    down: Tensor
    up: Tensor
    scale: float

    def folded(self, weight: Tensor) -> Tensor:
        """The weight (out, in) with the insert added, in the weight's own type; the sum is made in float32."""
        return (weight.float() + self.scale * (self.up.float() @ self.down.float())).to(weight.dtype)


def plain(key: str) -> str:
    """A key without what wrapping for training adds to it."""
    return key.removeprefix("module.").removeprefix("base_model.model.").replace(".base_layer.", ".")


def gather(found: Iterable[tuple[str, Tensor]], weights: Mapping[str, tuple[int, ...]], alpha: float = ALPHA) -> dict[str, Insert]:
    """Inserts by the plain key of the weight they belong to.

    found: every tensor whose key holds ``.lora_``; weights: shapes by plain key. Raises CheckpointError for a half or a misfit.
    """
    by_key = dict(found)
    out: dict[str, Insert] = {}
    for key in by_key:
        if ".lora_A." not in key and ".lora_B." not in key:
            raise CheckpointError(f"The insert {key} is of a kind LEGION's training does not make. Merge it with what wrote it.")
        down, up = (key.replace(".lora_A.", half).replace(".lora_B.", half) for half in (".lora_A.", ".lora_B."))
        target = plain(down.split(".lora_A.")[0]) + ".weight"
        if down not in by_key or up not in by_key:
            raise CheckpointError(f"The LoRA insert {key} has no second half: the export is incomplete. Export it again.")
        if target not in weights:
            raise CheckpointError(f"The LoRA insert {key} has no weight to merge into ({target}). Give the base it was trained on: --base.")
        r = by_key[down].shape[0]
        product = (by_key[up].shape[0], by_key[down].shape[-1])
        if by_key[up].shape[-1] != r or product != weights[target]:
            shapes = f"A {tuple(by_key[down].shape)}, B {tuple(by_key[up].shape)}, the weight {weights[target]}"
            raise CheckpointError(f"The LoRA insert {key} does not fit: {shapes}. Do the export and its base belong together?")
        out[target] = Insert(by_key[down], by_key[up], alpha / r)
    return out


def alpha_of(folder: Path) -> float | None:
    """``lora_alpha`` of the adapter_config.json that PEFT writes; None where there is none."""
    path = folder / "adapter_config.json"
    value = read_json(path).get("lora_alpha") if path.exists() else None
    return float(value) if isinstance(value, int | float) else None


def ranks(inserts: Mapping[str, Insert]) -> str:
    """What was found, in words."""
    found = sorted({(one.down.shape[0], one.scale) for one in inserts.values()})
    return ", ".join(f"r {r}, alpha {scale * r:g}" for r, scale in found)
