"""What a configuration needs from the hub: which repositories, and which of their files. Torch-free, and nothing is downloaded here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from refine import embedded

Kind = Literal["pipeline", "model", "files"]
HUB = re.compile(r"[\w.-]+(/[\w.-]+)?")
# Arguments of plugins that name weights.
SOURCES = ("source", "inpaint_source", "clip", "head", "tokenizer", "model")
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".pb", ".xml", ".gguf", ".tflite", ".onnx_data")
TEXTS = (".json", ".txt", ".model", ".jinja", ".tiktoken")
# Plugins that read single files, and what they read; where a repository has none of these it holds a model of transformers.
FILES: Mapping[tuple[str, str], Sequence[str]] = {
    ("hps", "source"): ("HPS_{version}_compressed.pt",),
    ("imagereward", "source"): ("ImageReward.pt",),
    ("imagereward", "tokenizer"): ("vocab.txt",),
    ("aesthetic", "head"): ("aesthetic-model.pth",),
    # What LEGION's reader asks for: offline, the hub's cache counts only what was asked for as a whole.
    ("legion", "source"): ("*.json", "*.safetensors", "pytorch_model*.bin", "tokenizer.model"),
    ("legion", "clip"): ("*.json", "*.safetensors", "pytorch_model*.bin", "tokenizer.model"),
}


@dataclass(frozen=True, slots=True)
class Need:
    """A repository that a configuration names. ``where``: the configuration's key; ``patterns``: only of single files."""

    repo: str
    where: str
    kind: Kind
    variant: str | None = None
    patterns: tuple[str, ...] = ()

    def choose(self, files: Collection[str], folders: Collection[str] = ()) -> list[str]:
        """Which of a repository's files are needed. folders: of a pipeline, the parts that its model_index.json names."""
        if self.kind == "files":
            found = [file for file in files if any(fnmatch(file, pattern) for pattern in self.patterns)]
            if found:
                return sorted(found)
        inside = {name: [file for file in files if _folder(file) == name] for name in ({"", *folders} if self.kind == "pipeline" else {""})}
        chosen = [file for name, part in inside.items() for file in _part(part, self.variant, bool(name) or self.kind != "pipeline")]
        return sorted(chosen)


def needs(tree: Mapping[str, Any]) -> list[Need]:
    """Every repository of a checked configuration, once each and in its order; local files and embedded weights are not among them."""
    found = {(need.repo, need.patterns): need for need in _walk(tree, "", None)}
    return list(found.values())


def is_remote(text: str) -> bool:
    """True for what can only be a name on the hub: neither a path that exists, nor a file of weights, nor an embedded model."""
    is_local = text.endswith(WEIGHTS) or Path(text).expanduser().exists()
    return bool(HUB.fullmatch(text)) and not embedded.is_reference(text) and not is_local


def _walk(node: Any, where: str, use: str | None) -> Iterator[Need]:
    if not isinstance(node, Mapping):
        return
    use = node.get("use", use)
    for key, value in node.items():
        here = f"{where}.{key}" if where else str(key)
        if isinstance(value, Mapping):
            yield from _walk(value, here, None)
        elif key in SOURCES and isinstance(value, str) and is_remote(value):
            brings_its_own = key == "tokenizer" and not is_remote(str(node.get("source", "")))
            if use == "endpoint" or brings_its_own or (key == "tokenizer" and (use, key) not in FILES):
                continue
            yield _need(value, here, str(use), key, node)


def _need(repo: str, where: str, use: str, key: str, node: Mapping[str, Any]) -> Need:
    if use == "diffusers":
        return Need(repo, where, "pipeline", node.get("variant") if key == "source" else None)
    patterns = FILES.get((use, key))
    if patterns is None:
        return Need(repo, where, "model")
    return Need(repo, where, "files", patterns=tuple(pattern.format(version=node.get("version", "")) for pattern in patterns))


def _part(files: Sequence[str], variant: str | None, weights: bool) -> Iterator[str]:
    """Of one folder: its texts, and one set of weights, safetensors before pickles and the variant before the plain."""
    yield from (file for file in files if file.endswith(TEXTS) and not _is_index(file))
    if weights:
        yield from _weights(files, variant)


def _weights(files: Sequence[str], variant: str | None) -> list[str]:
    for ending in (".safetensors", ".bin"):
        for wanted in (variant, None) if variant else (None,):
            whole = [file for file in files if file.endswith(ending) and _variant(file) == wanted and not _is_other(file)]
            if whole:
                return whole + [file for file in files if _is_index(file) and ending in file and _variant(file) == wanted]
    return []


def _variant(file: str) -> str | None:
    """``fp16`` of model.fp16.safetensors and of model.fp16-00001-of-00002.safetensors; None of a plain name."""
    stem = Path(file).name.split(".")
    plain = len(stem) < 3 or stem[1].startswith("index") or stem[1] == "safetensors"
    return None if plain else re.sub(r"-\d{5}-of-\d{5}$", "", stem[1])


def _is_index(file: str) -> bool:
    return ".index." in Path(file).name


def _is_other(file: str) -> bool:
    """Weights that are no part of the model: of optimizers, of other frameworks."""
    return bool(re.match(r"(optimizer|scheduler|training_args|openvino|flax|tf|rust)_?\w*\.", Path(file).name))


def _folder(file: str) -> str:
    return file.rpartition("/")[0]
