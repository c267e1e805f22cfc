"""How far does a reward move when nothing of meaning changes? The answer is the gate's noise (``gate.noise``).

    python -m benchmarks.noise --n 96

On clean renders of tuning seeds, a random patch without fault is repainted by the preset's own generator, weakly and with the right
prompt, and pasted as the loop would paste it. The noise of a reward is the 90th percentile of how far it falls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks import common
from refine import repair, runner
from refine.errors import spoken
from refine.policy import Policy
from refine.stages import Models
from refine.stilllife.render import render
from refine.types import Image, Inpaint, Mask, Region

SEED0 = 1_000_000  # tuning seeds
BATCH = 16
QUANTILE = 0.9
STRENGTH = 0.4
SIDES = (0.12, 0.4)  # of the patch, as a share of the image's side


def main(argv: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.set_defaults(seed0=SEED0, n=96)
    args = parser.parse_args(argv)
    models = runner.load_models(common.settings(args))
    seeds = range(args.seed0, args.seed0 + args.n)
    drops = np.concatenate([falls(models, seeds[start : start + BATCH]) for start in range(0, args.n, BATCH)])
    print(f"gate noise, {args.n} clean renders from seed {args.seed0}, {QUANTILE:.0%} of falls:")
    for reward, column in zip(models.rewards, drops.T, strict=True):
        print(f"  {reward.name}: {max(0.0, float(np.quantile(column, QUANTILE))):.4f}  (deviation {column.std():.4f})")


def falls(models: Models, seeds: Sequence[int]) -> npt.NDArray[np.float64]:
    """(images, rewards): how far each reward fell when a harmless patch was repainted."""
    scenes = [common.scene_and_prompt(seed, False) for seed in seeds]
    images, prompts = [render(scene).image for scene, _ in scenes], [prompt for _, prompt in scenes]
    plans = [plan(image, prompt, seed, models) for image, prompt, seed in zip(images, prompts, seeds, strict=True)]
    jobs = [repair.job(where, action, image, STRENGTH, seed) for (where, action), image, seed in zip(plans, images, seeds, strict=True)]
    painted = models.generator.inpaint(jobs)
    after = [repair.put_back(where, image, new) for (where, _), image, new in zip(plans, images, painted, strict=True)]
    rows = [[np.array(reward.score(batch, prompts)) for batch in (images, after)] for reward in models.rewards]
    return np.stack([before - now for before, now in rows], axis=1)


def plan(image: Image, prompt: str, seed: int, models: Models) -> tuple[repair.Plan, Inpaint]:
    """A repair of a random ellipse, as the loop would plan it."""
    action = Inpaint(Region(patch(image.size, np.random.default_rng(seed)), "a patch"), prompt)
    return repair.plan(action, image, Policy(), models.generator), action


def patch(size: tuple[int, int], rng: np.random.Generator) -> Mask:
    """A random ellipse inside an image of (width, height)."""
    axes = rng.uniform(*SIDES, 2) * size / 2
    centre = rng.uniform(axes, size - axes)
    y, x = np.mgrid[: size[1], : size[0]]
    mask: Mask = ((x - centre[0]) / axes[0]) ** 2 + ((y - centre[1]) / axes[1]) ** 2 <= 1
    return mask


if __name__ == "__main__":
    spoken(main)
