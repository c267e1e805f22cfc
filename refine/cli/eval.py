"""The grammar of ``refine eval``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add, configured

ABOUT = """Measure one part of refine on a published set, with the published measures."""

CONTROLLER = """\
How well does a controller find, explain and detect? It looks at every picture of a set; the table has the measures of the LEGION paper
with 95 % intervals, the floors they are to be read against, and the published rows. Entries that cannot be used are counted, not hidden.
A folder with one line per picture, a CSV and table.md is written; it can be stopped and resumed at any time."""

EXAMPLES = """\
sets, as they were released:
  stilllife            drawn here, nothing to download: --n scenes, each damaged and undamaged
  SynthScars           ROOT/{test,train}/images, ROOT/{test,train}/annotations/*.json
  RichHF-18K           ROOT/{test,dev,train}.tfrecord, pictures in ROOT/images
  LOKI                 ROOT/open_ended_vqa.json and the media beside it
  UniversalFakeDetect  ROOT/<generator>/{0_real,1_fake}, also with classes in between

examples:
  refine eval controller --dataset stilllife --n 64
  refine eval controller --dataset stilllife --preset blind                      the floor
  refine eval controller --dataset SynthScars --root data/SynthScars --preset public --encoder data/paraphrase-MiniLM-L6-v2
  refine eval controller --dataset SynthScars --root data/SynthScars --limit 50 --perturb jpeg:50 --perturb noise:0.1 --perturb blur:9
  refine eval controller --out runs/eval/mine --resume                           go on where it stopped
"""


def register(commands: Any) -> None:
    parts = add(commands, "eval", "measure a controller on published sets", ABOUT).add_subparsers(
        dest="what", metavar="WHAT", required=True
    )
    command = add(parts, "controller", "masks, explanations and detection", CONTROLLER, EXAMPLES)
    command.add_argument("--dataset", metavar="NAME", help="which set (see below)")
    command.add_argument("--root", metavar="DIR", help="where the set lies")
    command.add_argument("--split", metavar="NAME", help="which part of it (default: test)")
    command.add_argument("--n", type=int, metavar="N", help="scenes of stilllife (default: 64)")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N entries of the set")
    command.add_argument("--perturb", action="append", metavar="KIND:LEVEL", help="also at jpeg:Q, noise:SIGMA, blur:PIXELS; repeatable")
    command.add_argument("--encoder", metavar="SOURCE", help="sentence encoder for CSS: a folder or hub name (default: no CSS)")
    command.add_argument("--resume", action="store_true", help="go on with --out, with the options it had")
    configured(command)
