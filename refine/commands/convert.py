"""``refine convert``: published weights into our own layout."""

from __future__ import annotations

import sys
from argparse import Namespace

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from refine import display, runner
from refine.errors import ConfigError


def execute(args: Namespace) -> None:
    """Convert, with a bar on stderr; what was found goes to stdout."""
    faults = [f"--{name} is {value}; it must be above 0." for name, value in _numbers(args).items() if value is not None and value <= 0]
    if faults:
        raise ConfigError(faults)
    runner.check_torchvision()
    import torch

    from refine.controllers.legion.conversion import convert

    console = display.console(sys.stderr)
    columns = (TextColumn("converting"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("converting", total=None)
        report = convert(
            args.source,
            args.out,
            dtype=getattr(torch, args.dtype) if args.dtype else None,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
            base=args.base,
            clip=args.clip,
            sam=args.sam,
            detector=args.detector,
            sam_side=args.sam_side,
            sam_decoder_heads=args.sam_decoder_heads,
            lora_alpha=args.lora_alpha,
        )
    screen = display.console()
    screen.print(display.safe(str(report)))
    screen.print(display.safe(f"written: {args.out}"), soft_wrap=True)


def _numbers(args: Namespace) -> dict[str, float | None]:
    return {"sam-side": args.sam_side, "sam-decoder-heads": args.sam_decoder_heads, "lora-alpha": args.lora_alpha}
