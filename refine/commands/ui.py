"""``refine ui``: the local page."""

from __future__ import annotations

import importlib.util
import os
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from refine import display, runner, store
from refine.errors import MissingDependency
from refine.ui.desk import Desk


def execute(args: Namespace) -> None:
    """Check everything that can be wrong, say the address, and serve until interrupted."""
    if importlib.util.find_spec("gradio") is None:
        raise MissingDependency("gradio", "refine ui", "ui")
    runner.check_torchvision()
    folder = Path(args.out).absolute()
    desk = Desk(folder, list(dict.fromkeys(args.preset)) or ["mini"])
    with store.writing(folder, resumes=False):
        (folder / "served").mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported, as is the next
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "served")
    from refine.ui import serve

    bound = serve.listen(args.host, args.port)
    screen, errors = display.console(), display.console(sys.stderr)
    if not serve.is_loopback(args.host):
        errors.print(f"warning: {args.host} can be reached from other machines, and the page asks for no password.")
    host = f"[{args.host}]" if ":" in args.host else args.host
    screen.print(f"refine ui: http://{host}:{bound.getsockname()[1]}   (pictures: {args.out}; stop with Ctrl+C)", soft_wrap=True)
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):  # the usual way to stop
        serve.serve(desk, args.host, bound)
