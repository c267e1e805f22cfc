"""``refine calibrate``: when is a finding of LEGION real?"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from rich.progress import track

from refine import config as configuration
from refine import display, embedded, images, plugins, runner
from refine.config import Config
from refine.errors import ConfigError, InputError, OutputError
from refine.types import Image, Mask

if TYPE_CHECKING:
    from refine.controllers.legion.calibration import Observed
    from refine.controllers.legion.controller import LegionController

FIRST_SEED = 1_000_000  # of the tuning seeds: neither trained on nor held out
CHUNK = 16
OTHERS = plugins.TABLE["controller"].keys() - {"legion"}
NOT_LEGION = "refine calibrate fits the score of LEGION; this preset's controller is {use!r}. Give another --preset."
Known: TypeAlias = tuple[Image, Mask | bool]


def execute(args: Namespace) -> None:
    """Inspect images whose truth is known, fit on one half, measure on the other, write."""
    from refine.controllers.legion import calibration as calibrations
    from refine.controllers.legion.controller import LegionController

    runner.check_torchvision()
    config = configuration.load(args.preset, args.set)
    if not 0 < args.keep_clean <= 1:
        raise InputError(f"--keep-clean is {args.keep_clean}; it is a share above 0 and at most 1.")
    if (use := config.tree["controller"]["use"]) in OTHERS:  # before anything is loaded
        raise ConfigError(NOT_LEGION.format(use=use))
    known = Sources(args, decoder(config))
    known.enough(2 * calibrations.LEAST_IMAGES)
    target = Path(args.out) if args.out else beside(config)
    controller = runner.load_controller(config)
    if not isinstance(controller, LegionController):  # a plug-in's answer is known only once it is made
        raise ConfigError(NOT_LEGION.format(use=use))
    seen = look(controller, known)
    fitting, rest = ([one for k, one in enumerate(seen) if k // 2 % 2 == half] for half in (0, 1))  # pairs of a clean and a faulty image
    fitted = calibrations.fit(fitting, args.keep_clean)
    figures = calibrations.figures(fitted, rest)
    try:
        calibrations.Calibration(fitted.weights, fitted.bias, figures).save(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error}). Choose another --out.") from error
    screen = display.console()
    for name, value in figures.items():
        screen.print(f"{name:18} {value:g}")
    screen.print(f"written: {target}", soft_wrap=True)


def decoder(config: Config) -> Path | None:
    """The folder of the generator's autoencoder, where the preset's generator lies in a folder here."""
    folder = Path(embedded.resolve(str(config.tree["generator"].get("source", "")))) / "vae"
    return folder if (folder / "config.json").exists() else None


class Sources:
    """Images with their truth, clean and faulty by turns. decoder: an autoencoder that every second pair of still lifes goes through."""

    def __init__(self, args: Namespace, decoder: Path | None = None) -> None:
        self.count, self.decoder = args.stilllife or 0, decoder
        self.clean, self.faulty = (images.files(map(Path, given)) for given in (args.clean, args.faulty))
        if self.count < 0:
            raise InputError(f"--stilllife is {self.count}; it must be 0 or more.")
        if not self.count and not (self.clean and self.faulty):
            raise InputError("Give --clean FOLDER and --faulty FOLDER, or --stilllife N, or both.")
        self.masks = Path(args.masks) if args.masks else None

    def enough(self, least: int) -> None:
        """Raises InputError where there are fewer than ``least`` images of a sort: half are for the fit, half for the figures."""
        clean, faulty = (self.count + len(files) for files in (self.clean, self.faulty))
        if min(clean, faulty) < least:
            halves = "half of each for the fit and half for the figures"
            raise InputError(f"A calibration needs {least} clean and {least} faulty images, {halves}; got {clean} and {faulty}.")

    def __len__(self) -> int:
        return 2 * self.count + len(self.clean) + len(self.faulty)

    def __iter__(self) -> Iterator[Known]:
        yield from self._stilllife(self.count)
        yield from (self._read(path, faulty) for path, faulty in paired(self.clean, self.faulty))

    def _stilllife(self, count: int) -> Iterator[Known]:
        from refine.controllers.legion.cache import draw
        from refine.overlap import union

        soften = softener(self.decoder) if self.decoder else None
        for seed in range(FIRST_SEED, FIRST_SEED + count):
            for sample in draw(seed, clean=1.0, size=128):
                image = soften(sample.image) if soften and seed // 2 % 2 else sample.image
                yield image, union(sample.regions, (sample.image.height, sample.image.width))

    def _read(self, path: Path, faulty: bool) -> Known:
        image = images.read(path).image
        if not faulty or self.masks is None:
            return image, faulty
        found = [file for file in images.files([self.masks]) if file.stem == path.stem]
        if not found:
            raise InputError(f"{path.name} has no mask in {self.masks}. Name the mask {path.stem}.png.")
        mask = np.asarray(images.read(found[0]).image.convert("L")) > 127
        if mask.shape != (image.height, image.width):
            raise InputError(f"The mask {found[0]} is {mask.shape[1]} × {mask.shape[0]}, its image {image.width} × {image.height}.")
        return image, mask


def softener(folder: Path) -> Callable[[Image], Image]:
    """A round trip through an autoencoder: what it does to every picture is no fault, and the loop looks at drawn pictures."""
    from diffusers import AutoencoderKL

    from refine.generators.damage import soften

    return partial(soften, AutoencoderKL.from_pretrained(folder).eval())


def paired(clean: Sequence[Path], faulty: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """One clean, one faulty, by turns, then what is left of the longer list."""
    for good, bad in zip_longest(clean, faulty):
        yield from ((path, flag) for path, flag in ((good, False), (bad, True)) if path)


def look(controller: LegionController, known: Sources) -> list[Observed]:
    """What the controller finds in each image, a few at a time."""
    from refine.controllers.legion.calibration import observe

    controller.calibration = None
    waiting: list[Known] = []
    seen: list[Observed] = []
    console = display.console(sys.stderr)
    for one in track(known, "inspecting", total=len(known), console=console, disable=not console.is_terminal):
        waiting.append(one)
        if len(waiting) == CHUNK:
            seen += observe(controller.look([image for image, _ in waiting]), [truth for _, truth in waiting])
            waiting.clear()
    return seen + observe(controller.look([image for image, _ in waiting]), [truth for _, truth in waiting])


def beside(config: Config) -> Path:
    """The file beside the controller's weights. Raises InputError where they are not in a folder here."""
    from refine.controllers.legion.calibration import FILE

    source = Path(embedded.resolve(str(config.tree["controller"].get("source", ""))))
    if not (source / "config.json").exists():
        raise InputError(f"{source} is no folder here to keep a calibration in. Give --out FILE; use it with controller.calibration=FILE.")
    return source / FILE
