"""Small studies behind choices of the repair recipe, on damaged renders of tuning seeds.

    python -m benchmarks.recipe tint     how far does a repaint shift the colours around its mask, and does taking that out help?
    python -m benchmarks.recipe box      is a second look at the repaired box alone cheaper than one at the whole picture, and as sure?
    python -m benchmarks.recipe paint    how near to the clean render is a repaint of the true mask: strengths, soft edges, a filled start?
    python -m benchmarks.recipe parts    which parts of a repaint take the time: what would a cache of them save?

Seconds are the processor's: other processes hardly count.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import PIL.Image
from scipy import ndimage

from benchmarks import common
from benchmarks.repair import damaged, gap
from refine import regions, repair, runner
from refine.config import Config
from refine.errors import spoken
from refine.evals.statistics import Floats
from refine.policy import Policy
from refine.stilllife.damage import Sample
from refine.types import Critique, Generator, Image, Inpaint, Mask

SEED0 = 1_500_000  # tuning seeds
STRENGTHS = (0.85, 0.4)
VARIANTS = (
    *((f"strength {strength}", strength, False, False) for strength in (0.85, 0.6, 0.4, 0.25)),
    *((f"strength {strength}, soft edge", strength, True, False) for strength in (0.85, 0.4)),
    *((f"strength {strength}, from a filled mask", strength, False, True) for strength in (0.6, 0.4, 0.25)),
)
SMOOTHINGS = 60
SEEN = 0.1  # a fault is seen where the mass in its mask is at least this share of the mask
Rows = list[tuple[str, str]]


def main(argv: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.set_defaults(seed0=SEED0, n=40)
    parser.add_argument("study", choices=tuple(STUDIES))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = STUDIES[args.study](common.settings(args), [damaged(seed, args.hard) for seed in range(args.seed0, args.seed0 + args.n)])
    common.report(f"{args.study}, {args.n} damaged renders from seed {args.seed0}", rows, args.out / f"recipe-{args.study}.csv")


def repainted(generator: Generator, samples: Sequence[Sample], strength: float) -> list[tuple[repair.Plan, Image]]:
    """Each picture's first fault, planned and repainted on its true mask, before it is put back."""
    actions = [Inpaint(sample.regions[0], sample.caption) for sample in samples]
    plans = [repair.plan(action, sample.image, Policy(), generator) for action, sample in zip(actions, samples, strict=True)]
    jobs = [
        repair.job(plan, action, sample.image, strength, seed)
        for seed, (plan, action, sample) in enumerate(zip(plans, actions, samples, strict=True))
    ]
    return list(zip(plans, generator.inpaint(jobs), strict=True))


def tint(chosen: Config, samples: Sequence[Sample]) -> Rows:
    """Largest shift of a channel's median in the ring; error against the clean render inside the mask, without and with the match."""
    generator: Generator = runner.make("generator", chosen.tree["generator"])
    rows: Rows = []
    for strength in STRENGTHS:
        table = np.array(
            [shift(plan, painted, sample) for (plan, painted), sample in zip(repainted(generator, samples, strength), samples, strict=True)]
        )
        quantiles = ", ".join(f"{value:.1f}" for value in np.quantile(table[:, 0], (0.5, 0.9, 1)))
        rows.append((f"strength {strength}: tint in levels of 255 (median, 90 %, largest)", quantiles))
        rows.append((f"strength {strength}: error inside, without and with the match", "{:.2f}, {:.2f}".format(*table[:, 1:].mean(0))))
    return rows


def shift(plan: repair.Plan, painted: Image, sample: Sample) -> tuple[float, float, float]:
    """One row of ``tint``."""
    patch = regions.resize(painted, (plan.box[2] - plan.box[0], plan.box[3] - plan.box[1]))
    source, clean = (image.crop(plan.box) for image in (sample.image, sample.clean))
    mask = regions.cut(plan.mask, plan.box)
    matched = regions.match_colour(patch, source, mask)
    ring = regions.dilate(mask, regions.RING) & ~mask
    pixels, wanted, truth, done = (np.asarray(image, np.float64) for image in (patch, source, clean, matched))
    moved = float(np.abs(np.median((wanted - pixels)[ring], axis=0)).max())
    return moved, float(np.abs(pixels - truth)[mask].mean()), float(np.abs(done - truth)[mask].mean())


def paint(chosen: Config, samples: Sequence[Sample]) -> Rows:
    """Error of every fault's pixels against the clean render, of 255: each fault repainted alone, in a picture that keeps the others."""
    generator: Generator = runner.make("generator", chosen.tree["generator"])
    faults = [(sample, place) for sample in samples for place in range(len(sample.regions))]
    rows: Rows = [(f"{len(faults)} faults, before", f"{np.mean([wrong(s.image, s, place) for s, place in faults]):.2f}")]
    columns: dict[str, Floats] = {}
    for name, strength, soft, start in VARIANTS:
        columns[name] = np.array([painted(generator, s, place, strength, soft, start) for s, place in faults])
        rows.append((name, f"{columns[name].mean():.2f}"))
    best = np.min([columns[f"strength {strength}"] for strength in (0.85, 0.6, 0.4)], axis=0)
    return [*rows, ("the best of 0.85, 0.6 and 0.4, by truth", f"{best.mean():.2f}")]


def painted(generator: Generator, sample: Sample, place: int, strength: float, soft: bool, start: bool) -> float:
    """One repaint with the scene's caption, pasted back, measured. ``start``: from the mask filled with what is around it."""
    action = Inpaint(sample.regions[place], sample.caption)
    plan = repair.plan(action, sample.image, Policy(soft=soft), generator)
    begun = filled(sample.image, plan.mask) if start else sample.image
    (image,) = generator.inpaint([repair.job(plan, action, begun, strength, place)])
    return wrong(repair.put_back(plan, sample.image, image), sample, place)


def wrong(image: Image, sample: Sample, place: int) -> float:
    """Mean absolute error inside one fault's mask, in levels of 255."""
    return float(gap(image, sample.clean)[sample.regions[place].mask].mean())


def filled(image: Image, mask: Mask) -> Image:
    """The nearest pixels from around the mask, smoothed inside it."""
    base = np.asarray(image, np.float32)[tuple(ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True))]
    pixels = base
    for _ in range(SMOOTHINGS):
        pixels = np.where(mask[..., None], ndimage.uniform_filter(pixels, (3, 3, 1)), base)
    return PIL.Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


def box(chosen: Config, samples: Sequence[Sample]) -> Rows:
    """The controller on damaged and clean renders: the whole picture, the fault's box, and the box at the picture's size."""
    controller = runner.load_controller(chosen)
    alone = [sample for sample in samples if len(sample.regions) == 1]
    boxes = [regions.crop_box(regions.box_of(s.regions[0].mask), s.image.size, scale=2.0, least=48) for s in alone]
    whole = [(0, 0, *sample.image.size) for sample in alone]
    controller.inspect([alone[0].image.rotate(90)])  # warms up
    rows: Rows = [("pictures with one fault", str(len(alone)))]
    for name, places, zoom in (("whole picture", whole, False), ("box", boxes, False), ("box, enlarged", boxes, True)):
        seen, seconds = [], 0.0
        for images in ([sample.image for sample in alone], [sample.clean for sample in alone]):
            cut = [image.crop(place) for image, place in zip(images, places, strict=True)]
            looked = [regions.resize(part, image.size) for part, image in zip(cut, images, strict=True)] if zoom else cut
            began = time.process_time()
            critiques = controller.inspect(looked)
            seconds += time.process_time() - began
            seen.append(np.array([found(c, s, place) for c, s, place in zip(critiques, alone, places, strict=True)]))
        rows.append((name, f"{seconds / 2 / len(alone):.3f} s · {sureness(*seen)}"))
    return rows


def found(critique: Critique, sample: Sample, place: tuple[int, int, int, int]) -> float:
    """Mean heat in the true mask, whatever size the picture was looked at."""
    mask = regions.resize_mask(regions.cut(sample.regions[0].mask, place), critique.size)
    return regions.heat_in(critique.heat, mask) / float(mask.sum())


def sureness(faulty: Floats, clean: Floats) -> str:
    """How well the look tells the two apart."""
    above = (faulty[:, None] > clean[None]).mean() + 0.5 * (faulty[:, None] == clean[None]).mean()
    return f"faults seen {(faulty > SEEN).mean():.2f}, clean called clean {(clean <= SEEN).mean():.2f}, area under ROC {above:.3f}"


def parts(chosen: Config, samples: Sequence[Sample]) -> Rows:
    """Processor seconds of the parts of a diffusers pipeline with a U-Net."""
    generator = runner.make("generator", chosen.tree["generator"])
    seconds: defaultdict[str, float] = defaultdict(float)
    for owner, name in (("text_encoder", "forward"), ("vae", "encode"), ("unet", "forward"), ("vae", "decode")):
        model = getattr(generator.pipe, owner)
        setattr(model, name, timed(getattr(model, name), f"{owner}.{name}", seconds))
    rows: Rows = []
    for strength in STRENGTHS:
        seconds.clear()
        began = time.process_time()
        repainted(generator, samples[:8], strength)
        total = time.process_time() - began
        shares = ", ".join(f"{name} {100 * spent / total:.1f} %" for name, spent in seconds.items())
        rows.append((f"strength {strength}: shares of {total:.2f} s for 8 repaints", shares))
    return rows


def timed(call: Callable[..., Any], name: str, seconds: defaultdict[str, float]) -> Callable[..., Any]:
    """The call, its time added up under a name."""

    def timing(*given: Any, **named: Any) -> Any:
        began = time.process_time()
        result = call(*given, **named)
        seconds[name] += time.process_time() - began
        return result

    return timing


STUDIES = {"tint": tint, "paint": paint, "box": box, "parts": parts}

if __name__ == "__main__":
    spoken(main)
