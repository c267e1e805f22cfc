"""Saving a composed modular workflow as it is: components, and the code that composes its blocks again."""

from __future__ import annotations

import inspect
import json
import os
import warnings
from pathlib import Path
from typing import Any

from refine.errors import ConfigError
from refine.pipeline.step import DROPPED, INDEX, RefineStep, saveable, write_folder

NAME = "Workflow"


def save_workflow(pipe: Any, folder: str | os.PathLike[str]) -> None:
    """Write a modular pipeline that has a RefineStep; ``ModularPipeline.from_pretrained(folder, trust_remote_code=True)`` loads it whole
    (then ``load_components()``, as always).

    Raises ConfigError where a block cannot be named in code: one that is made from arguments, or not importable from a module.
    """
    blocks = pipe.blocks
    named = {name: _call(name, block) for name, block in blocks.sub_blocks.items()}
    if not any(isinstance(block, RefineStep) for block in blocks.sub_blocks.values()):
        raise ConfigError("This workflow has no RefineStep among its blocks: pipe.save_pretrained(folder) keeps all there is.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=DROPPED[:40])
        pipe.save_pretrained(str(folder), overwrite_modular_index=True)
    _forget_nodes(Path(folder) / INDEX)
    modules = sorted({_module(block) for block in blocks.sub_blocks.values()})
    lines = [
        *(f"import {module}" for module in modules),
        "from diffusers.modular_pipelines import SequentialPipelineBlocks",
        "from diffusers.modular_pipelines.modular_pipeline_utils import InsertableDict",
        "",
        "",
        f"class {NAME}(SequentialPipelineBlocks):",
        f"    block_classes = [{', '.join(_name(block) for block in blocks.sub_blocks.values())}]",
        f"    block_names = {list(named)!r}",
        "",
        "    def __init__(self):",
        "        self.sub_blocks = InsertableDict()",
        *(f"        self.sub_blocks[{name!r}] = {call}" for name, call in named.items()),
    ]
    write_folder(Path(folder), "\n".join(lines) + "\n", NAME)


def _forget_nodes(index: Path) -> None:
    """Take the step's configuration out of the index: it is in the code, and a second copy would silence the next warning."""
    read = json.loads(index.read_text(encoding="utf-8"))
    index.write_text(json.dumps({name: value for name, value in read.items() if name != "refine"}, indent=2) + "\n", encoding="utf-8")


def _call(name: str, block: Any) -> str:
    """The expression that makes a block."""
    if isinstance(block, RefineStep):
        return f"{_name(block)}(**{saveable(block)!r})"
    given = [one.name for one in inspect.signature(type(block)).parameters.values() if one.default is inspect.Parameter.empty]
    if given or "<" in type(block).__qualname__ or type(block).__module__ == "__main__":
        raise ConfigError(f"Block {name!r} is a {type(block).__qualname__}, which cannot be written as code. Give it a class of a module.")
    return f"{_name(block)}()"


def _module(block: Any) -> str:
    return "refine.pipeline" if isinstance(block, RefineStep) else type(block).__module__


def _name(block: Any) -> str:
    return f"{_module(block)}.{'RefineStep' if isinstance(block, RefineStep) else type(block).__qualname__}"
