"""The worker's own protocol loop over our scores and over some that misbehave, for interpreters without the authors' packages."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from refine.evals.official_worker import serve

Answers = tuple[Callable[[Sequence[Any], Sequence[str]], list[float]], dict[str, Any]]


def native(options: dict[str, Any], device: str) -> Answers:
    """HPSv2.1 as we have it; v2.0 is moody and has a torchvision."""
    if options["version"] == "v2.0":
        return moody(options, device)[0], {"antialias": True, "torchvision": "0.29.1"}
    from refine.evals.backends import hps

    heads = {key: options[key] for key in ("vision_heads", "text_heads")}
    reward = hps(options["checkpoint"]["path"], version=options["version"], device=device, **heads)
    return reward.score, {"antialias": True}


def moody(options: dict[str, Any], device: str) -> Answers:
    """Scores are the mean grey of each image; some prompts are commands."""
    if options["checkpoint"].get("repo") == "no/weights":
        raise OSError("401 for https://somewhere/x?signature=abc with Bearer hf_abcdefgh1234")

    def score(images: Sequence[Any], prompts: Sequence[str]) -> list[float]:
        print("chatter on stdout, as the packages do")
        first = prompts[0]
        if first == "crash":
            print("about to die with hf_abcdefgh1234", file=sys.stderr, flush=True)
            os._exit(3)
        if first == "sleep":
            time.sleep(60)
        if first == "raise":
            raise ValueError("hf_abcdefgh1234 is no good")
        if first == "short":
            return []
        if first == "nan":
            return [float("nan")] * len(images)
        return [float(image.convert("L").resize((1, 1)).getpixel((0, 0))) for image in images]

    return score, {"process": os.getpid(), "offline": os.environ.get("HF_HUB_OFFLINE", "")}


def lacking(options: dict[str, Any], device: str) -> Answers:
    import a_package_that_nobody_has  # type: ignore[import-not-found]

    return a_package_that_nobody_has.score, {}


if __name__ == "__main__":
    serve({"hps": native, "imagereward": moody} if "lacking" not in sys.argv else {"imagereward": lacking})
