"""How well the generator follows held-out prompts, and how often it draws something broken: read by the held-out judge.

    python -m benchmarks.generator --n 256

One row per prompt in runs/bench/generator.csv. Nothing is repaired here.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import common
from refine.errors import spoken
from refine.evals import statistics


def main(argv: Sequence[str] | None = None) -> None:
    args = common.parser(__doc__).parse_args(argv)
    chosen = common.settings(args)
    bench = common.load(args, chosen)

    def rows(seeds: Sequence[int]) -> list[common.Row]:
        prompts = [common.scene_and_prompt(seed, args.hard)[1] for seed in seeds]
        readings = bench.judge.read(bench.models.generator.draw(prompts, list(seeds)))
        graded = [common.graded("", reading, prompt) for reading, prompt in zip(readings, prompts, strict=True)]
        return [{"seed": seed, "prompt": prompt, **grades} for seed, prompt, grades in zip(seeds, prompts, graded, strict=True)]

    path = args.out / f"generator{'-hard' if args.hard else ''}.csv"
    identity = {"generator": chosen.tree["generator"], "batch": bench.batch, "hard": args.hard}
    made = common.collect(path, identity, args, bench.batch, rows)
    if len(made) > 1:
        common.report(f"generator, n = {len(made)}, [95 % CI]", summary(made), path)


def summary(rows: Sequence[dict[str, str]]) -> list[tuple[str, str]]:
    """The lines of the table: shares with Wilson's interval, means with a bootstrap interval."""
    lines = [
        ("count, colours, shapes, left/right all right", share(rows, "core")),
        ("every attribute right", share(rows, "every")),
        ("mean per attribute", common.percent(statistics.bootstrap(common.column(rows, "mean"), statistics.mean))),
    ]
    for name in ("count", "shape", "colour", "size", "material", "floor", "light"):
        lines.append((f"... {name}", f"{100 * common.column(rows, name).mean():.1f} %"))
    lines.append(("pictures that the judge calls faulty", share(rows, "faulty")))
    lines.append(("artifact area", common.percent(statistics.bootstrap(common.column(rows, "area"), statistics.mean))))
    return lines


def share(rows: Sequence[dict[str, str]], name: str) -> str:
    """A share of rows with its interval."""
    return common.percent(statistics.wilson(int(common.column(rows, name).sum()), len(rows)))


if __name__ == "__main__":
    spoken(main)
