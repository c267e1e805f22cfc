"""The grammar of ``refine convert``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add

ABOUT = """\
Write a published checkpoint in refine's own layout: safetensors under one set of names, with its tokenizer and processor. Sizes are read
from the tensors. The source is read shard by shard, pickles without running code; OUT appears whole or not at all."""

EPILOG = """\
examples:
  refine convert legion khr0516/legion_LE weights/legion                       from the hub, CLIP from the hub beside it
  refine convert legion export/ weights/legion --base GLaMM-GranD-Pretrained/  a training export with LoRA inserts (r is read, alpha 16)
  refine convert legion stage2/ weights/legion                                 with the detector head and its own CLIP tower
  refine convert legion GLaMM/ weights/legion --sam sam_vit_h_4b8939.pth       a base without Segment Anything
  refine convert legion khr0516/legion_LE weights/legion --dtype bfloat16      SAM is stored in float32; this halves it
  refine inspect photo.png --set controller.use=legion --set controller.source=weights/legion

Of a tensor that stands in several sources, SOURCE's own counts before --base, and --base before --sam."""


def register(commands: Any) -> None:
    command = add(commands, "convert", "bring published weights into refine's own layout", ABOUT, EPILOG)
    command.add_argument("kind", choices=["legion"], metavar="legion", help="whose weights; LEGION's and GLaMM's layouts are known")
    command.add_argument("source", metavar="SOURCE", help="folder, weight file, or repository on the hub")
    command.add_argument("out", metavar="OUT", help="folder to write; must not exist")
    command.add_argument("--base", metavar="DIR", help="what SOURCE lacks: tensors, config.json, tokenizer")
    command.add_argument("--clip", metavar="DIR", help="CLIP tower (default: SOURCE's own, else the one its config.json names)")
    command.add_argument("--sam", metavar="FILE", help="Segment Anything's weights, where SOURCE has none")
    command.add_argument("--detector", metavar="FILE", help="weights of a prediction head")
    command.add_argument("--sam-side", type=int, default=512, metavar="PX", help="longer image side for SAM: 512 as trained, or 1024")
    command.add_argument("--sam-decoder-heads", type=int, default=8, metavar="N", help="of SAM's mask decoder (default: 8, as published)")
    command.add_argument("--lora-alpha", type=float, metavar="A", help="of LoRA inserts (default: adapter_config.json's, else 16)")
    command.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], help="store every tensor so (default: as it is stored)")
