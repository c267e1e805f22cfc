"""HPSv2 and ImageReward by their authors' own packages: the other end of ``refine.evals.official``, run by another interpreter.

It imports nothing of refine, needs Python 3.10 or newer, and talks in lines of JSON: one request on stdin, one answer on stdout.

request  {"reward": "hps", "device": "cpu", "options": {...}}        load; must come first
answer   {"protocol": {...}}                                         versions, and what moves the numbers
request  {"images": [PNG in base64, ...], "prompts": [...]}          equally many of both
answer   {"scores": [...]}
answer   {"error": "...", "kind": "package" | "checkpoint" | "other"} instead of any of these
"""

from __future__ import annotations

import base64
import importlib
import importlib.metadata
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Scorer = Callable[[Sequence[Any], Sequence[str]], list[float]]
Loader = Callable[[dict[str, Any], str], tuple[Scorer, dict[str, Any]]]


def hps(options: dict[str, Any], device: str) -> tuple[Scorer, dict[str, Any]]:
    """``hpsv2.img_score.score``, which reads its checkpoint again for every prompt; the LAION weights that it would download first, only to
    overwrite them, are left out."""
    img_score: Any = importlib.import_module("hpsv2.img_score")
    checkpoint = _file(options["checkpoint"])
    img_score.device = device
    model, _, preprocess = img_score.create_model_and_transforms(
        _architecture(checkpoint, options), None, precision="amp", device=device, light_augmentation=True, output_dict=True
    )
    img_score.model_dict.update(model=model, preprocess_val=preprocess)

    def score(images: Sequence[Any], prompts: Sequence[str]) -> list[float]:
        scores = [0.0] * len(images)
        for prompt in dict.fromkeys(prompts):
            places = [k for k, one in enumerate(prompts) if one == prompt]
            found = img_score.score([images[k] for k in places], prompt, cp=checkpoint, hps_version=options["version"])
            for place, one in zip(places, found, strict=True):
                scores[place] = float(one)
        return scores

    antialias = tuple(map(int, _versions("torchvision")["torchvision"].split(".")[:2])) >= (0, 17)
    return score, {"antialias": antialias, **_versions("hpsv2", "hpsv2x", "torch", "torchvision")}


def _architecture(checkpoint: str, options: dict[str, Any]) -> str:
    """The published size, or, where heads are given, one described by the checkpoint's tensors."""
    if not options.get("vision_heads"):
        return "ViT-H-14"
    torch = importlib.import_module("torch")
    factory = importlib.import_module("hpsv2.src.open_clip.factory")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    width, _, patch, _ = state["visual.conv1.weight"].shape
    vocabulary, text_width = state["token_embedding.weight"].shape
    vision = {
        "image_size": round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5) * patch,
        "layers": _layers(state, "visual.transformer.resblocks."),
        "width": width,
        "head_width": width // options["vision_heads"],
        "mlp_ratio": state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0] / width,
        "patch_size": patch,
    }
    text = {
        "context_length": state["positional_embedding"].shape[0],
        "vocab_size": vocabulary,
        "width": text_width,
        "heads": options["text_heads"],
        "layers": _layers(state, "transformer.resblocks."),
    }
    with tempfile.TemporaryDirectory() as folder:
        described = {"embed_dim": state["text_projection"].shape[1], "vision_cfg": vision, "text_cfg": text}
        (Path(folder) / "as-in-checkpoint.json").write_text(json.dumps(described))
        factory.add_model_config(folder)
    return "as-in-checkpoint"


def _layers(state: Mapping[str, Any], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def imagereward(options: dict[str, Any], device: str) -> tuple[Scorer, dict[str, Any]]:
    """``ImageReward.load(...).score(prompt, image)``."""
    package = importlib.import_module("ImageReward")
    checkpoint = _file(options["checkpoint"])
    beside = Path(checkpoint).parent / "med_config.json"
    settings = str(beside) if beside.is_file() else _file({**options["checkpoint"], "filename": "med_config.json"})
    with tempfile.TemporaryDirectory() as folder:
        here = os.getcwd()
        if options.get("vocabulary"):
            # The package asks for "bert-base-uncased" by that name, which a folder in the current one answers without the hub.
            words = Path(folder) / "bert-base-uncased"
            words.mkdir()
            shutil.copy(options["vocabulary"], str(words / "vocab.txt"))
            os.chdir(folder)
        try:
            model = package.load(name=checkpoint, device=device, med_config=settings)
        finally:
            os.chdir(here)

    def score(images: Sequence[Any], prompts: Sequence[str]) -> list[float]:
        return [float(model.score(prompt, image)) for image, prompt in zip(images, prompts, strict=True)]

    return score, _versions("image-reward", "torch", "torchvision", "transformers")


def _file(place: Mapping[str, Any]) -> str:
    """A path as it is; a file of a hub repository is downloaded, or taken from the hub's cache."""
    if place.get("path"):
        return str(place["path"])
    hub = importlib.import_module("huggingface_hub")
    return str(hub.hf_hub_download(place["repo"], place["filename"]))


def _versions(*names: str) -> dict[str, str]:
    """The versions of those distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def serve(loaders: Mapping[str, Loader]) -> None:
    """Answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the packages print is not an answer
    scorer = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            answer: dict[str, Any]
            if "reward" in request:
                scorer, protocol = loaders[request["reward"]](request["options"], request["device"])
                answer = {"protocol": protocol}
            else:
                assert scorer is not None, "the first request must load a reward"
                answer = {"scores": scorer([_image(one) for one in request["images"]], request["prompts"])}
        except ImportError as error:
            answer = {"error": f"{type(error).__name__}: {error}", "kind": "package"}
        except Exception as error:  # whatever the package raises must reach the other side
            kind = "checkpoint" if scorer is None else "other"
            answer = {"error": f"{type(error).__name__}: {error}", "kind": kind}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _image(text: str) -> Any:
    import PIL.Image

    return PIL.Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")


if __name__ == "__main__":
    serve({"hps": hps, "imagereward": imagereward})
