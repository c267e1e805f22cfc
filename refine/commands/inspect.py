"""``refine inspect``: the controller alone."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from refine import config as configuration
from refine import display, images, record, runner, store
from refine.commands.folders import RUNS, fresh
from refine.errors import OutputError
from refine.overlay import overlay
from refine.types import Critique


def execute(args: Namespace) -> None:
    """The controller alone: text to stdout; JSON, masks and an overlay to a folder."""
    runner.check_torchvision()
    config = configuration.load(args.preset, args.set)
    files = images.files(map(Path, args.image))
    for file in files:
        images.read(file)
    asked = Path(args.out) if args.out else None
    if asked and asked.exists() and (not asked.is_dir() or any(asked.iterdir())):
        raise OutputError(f"{asked} exists already. Choose another --out.")
    controller = runner.load_controller(config)
    out = asked or fresh(RUNS / "inspect")
    args.left = f"What was inspected until now is in {out}."
    screen = display.console()
    for number, file in enumerate(files):
        picture = images.read(file)
        critique = controller.inspect([picture.image])[0]
        write_inspection(out / f"{number:03d}-{file.stem}", file, picture, critique)
        screen.print(display.safe(display.critique_text(file.name, critique)))
    screen.print(f"masks, overlays and JSON: {out}", soft_wrap=True)


def write_inspection(folder: Path, file: Path, picture: images.Picture, critique: Critique) -> None:
    """``critique.json``, ``overlay.png`` and one mask per region."""
    source = {"name": file.name, "sha256": picture.sha256, "notes": list(picture.notes)}
    with store.writing(folder, resumes=False):
        (folder / "masks").mkdir(parents=True)
        text = record.dumps({"format": record.FORMAT, "source": source, "critique": record.critique_json(critique)})
        (folder / "critique.json").write_text(text, encoding="utf-8")
        images.write(overlay(picture.image, critique), folder / "overlay.png")
        store.write_masks(folder / "masks", "region", critique)
