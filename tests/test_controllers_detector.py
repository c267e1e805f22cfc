"""Detectors with a good/bad test: real transformers pipelines at a tiny size, and a gate that keeps repairs by the grade."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, Owlv2Config, Owlv2ForObjectDetection, YolosConfig, YolosForObjectDetection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

from refine import config, runner
from refine.controllers.detector import GradedDetector
from refine.controllers.graders import ClipGrader, RewardGrader, share
from refine.controllers.objects import ObjectFinder, things
from refine.controllers.vlm import filled
from refine.controllers.yolo import YoloFinder
from refine.errors import CheckpointError, ConfigError, MissingDependency
from refine.policy import Policy
from refine.stilllife.oracle import Likeness
from refine.types import Box, Critique, Image, Mask, Region
from tests.tiny_chats import tokenizer
from tests.toys import Smoothness, picture, scratched

HERE = __name__
TEXT = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
EYES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def randomized(model: nn.Module, seed: int) -> Any:
    """The model with weights that make its outputs differ."""
    torch.manual_seed(seed)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


def two_boxes(image: Image) -> list[Mask]:
    """The left and the right third of an image."""
    third = image.width // 3
    return [filled((0, 0, third, image.height), image.size), filled((image.width - third, 0, image.width, image.height), image.size)]


def darkness(crop: Image) -> float:
    """Black is faulty."""
    return float((np.asarray(crop) < 10).all(2).mean() > 0.1)


@dataclass
class Noted:
    """A grader that notes what it was shown."""

    crops: list[tuple[int, int]] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)
    calls: int = 0

    def grade(self, crops: Sequence[Image], phrases: Sequence[str]) -> list[float]:
        self.calls += 1
        self.crops += [crop.size for crop in crops]
        self.phrases += phrases
        return [0.25] * len(crops)


class Shrink:
    """A segmenter that leaves the inner pixel of each box."""

    def segment(self, image: Image, boxes: Sequence[Box]) -> list[Mask]:
        return [filled((x0 + 1, y0 + 1, x0 + 2, y0 + 2), image.size) for x0, y0, _, _ in boxes]


def test_a_healthy_thing_is_left_alone_and_a_faulty_one_is_not() -> None:
    image = scratched(picture(0), [(60, 5, 75, 40)])
    [critique] = GradedDetector(two_boxes, darkness).inspect([image])
    assert [region.score for region in critique.regions] == [0.0, 1.0]
    [target] = Policy().faults(critique)
    assert target.mask[:, 60].all()
    assert not target.mask[:, :40].any()
    assert target.explanation == "Faulty with probability 1.00."
    assert critique.summary == "2 found, 1 of them more likely faulty than not."


def test_all_crops_are_graded_in_one_call_with_some_context() -> None:
    grader = Noted()
    GradedDetector(two_boxes, grader, context=2.0).inspect([picture(0, 90, 40), picture(1, 60, 20)])
    assert grader.calls == 1
    assert grader.crops == [(60, 40), (60, 40), (40, 20), (40, 20)]
    assert grader.phrases == ["artifact"] * 4


def test_nothing_found_is_not_graded() -> None:
    grader = Noted()
    [critique] = GradedDetector(lambda image: None, grader).inspect([picture(0)])
    assert (critique.regions, grader.calls) == ((), 0)


def test_the_segmenter_outlines_what_the_finder_boxes() -> None:
    [critique] = GradedDetector(two_boxes, Noted(), segmenter=Shrink()).inspect([picture(0)])
    assert [int(region.mask.sum()) for region in critique.regions] == [1, 1]


def test_a_crop_smaller_than_its_thing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"context is 0\.5"):
        GradedDetector(two_boxes, darkness, context=0.5)


def test_a_detector_of_functions_from_a_configuration() -> None:
    sets = ["controller=detector", f"controller.finder={HERE}:two_boxes", f"controller.grader={HERE}:darkness"]
    tree = config.load(["painter"], sets).tree
    assert tree["controller"]["segmenter"] is None
    [critique] = runner.make("controller", tree["controller"]).inspect([scratched(picture(0), [(60, 5, 75, 40)])])
    assert [region.score for region in critique.regions] == [0.0, 1.0]


def test_a_detector_without_a_grader_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"controller\.grader is required"):
        config.load(["painter"], ["controller=detector", f"controller.finder={HERE}:two_boxes"])


# Finders


@pytest.fixture(scope="module")
def yolos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny YOLOS with random weights and two classes."""
    names = {0: "face", 1: "hand"}
    settings = YolosConfig(**EYES, image_size=[64, 96], patch_size=16, num_detection_tokens=8, id2label=names)
    folder = tmp_path_factory.mktemp("yolos")
    randomized(YolosForObjectDetection(settings), 3).save_pretrained(folder)
    YolosImageProcessorPil(size={"height": 64, "width": 96}).save_pretrained(folder)
    return folder


def test_a_detector_of_transformers_gives_boxes_in_the_frame_of_the_image(yolos: Path) -> None:
    finder = ObjectFinder.from_pretrained(yolos, threshold=0.0, device="cpu")
    image = picture(0, 120, 70)
    [critique] = finder.inspect([image])
    raw = finder.pipe(image, threshold=0.0)
    expected = [one for one in raw if things(one, image.size)]
    assert len(critique.regions) == len(expected) > 1
    for region, one in zip(critique.regions, expected, strict=True):
        assert region.mask.shape == (70, 120)
        assert (region.phrase, region.score) == (one["label"], one["score"])
        x, y = np.flatnonzero(region.mask.any(0)), np.flatnonzero(region.mask.any(1))
        assert (x[0], y[0]) == (max(0, one["box"]["xmin"]), max(0, one["box"]["ymin"]))
        assert (x[-1] + 1, y[-1] + 1) == (min(120, one["box"]["xmax"]), min(70, one["box"]["ymax"]))


def test_labels_and_threshold_choose(yolos: Path) -> None:
    image = picture(0, 120, 70)
    everything = ObjectFinder.from_pretrained(yolos, threshold=0.0, device="cpu").inspect([image])[0].regions
    faces = ObjectFinder.from_pretrained(yolos, labels=("face",), threshold=0.0, device="cpu").inspect([image])[0].regions
    assert [region.score for region in faces] == [region.score for region in everything if region.phrase == "face"]
    middle = sorted(region.score for region in everything)[len(everything) // 2]
    some = ObjectFinder.from_pretrained(yolos, threshold=middle, device="cpu").inspect([image])[0].regions
    assert 0 < len(some) < len(everything)
    with pytest.raises(ConfigError, match=r"Unknown label 'hnad'\. Did you mean 'hand'"):
        ObjectFinder.from_pretrained(yolos, labels=("hnad",), device="cpu")


def test_a_detection_outside_the_image_is_none() -> None:
    box = {"xmin": -9, "ymin": 0, "xmax": 0, "ymax": 5}
    assert things({"box": box, "label": "face", "score": 0.5}, (80, 48)) is None


def test_words_are_looked_for_by_an_open_detector(tmp_path: Path) -> None:
    text = {**TEXT, "max_position_embeddings": 16, "bos_token_id": None, "eos_token_id": tokenizer().eos_token_id}
    settings = Owlv2Config(text_config=text, vision_config={**EYES, "image_size": 64, "patch_size": 16}, projection_dim=16)
    randomized(Owlv2ForObjectDetection(settings), 5).save_pretrained(tmp_path)
    Owlv2ImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    finder = ObjectFinder.from_pretrained(tmp_path, labels=("face", "hand"), threshold=0.0, device="cpu")
    [critique] = finder.inspect([picture(0, 120, 70)])
    assert {region.phrase for region in critique.regions} == {"face", "hand"}
    assert all(region.mask.shape == (70, 120) for region in critique.regions)
    with pytest.raises(ConfigError, match="labels is empty"):
        ObjectFinder.from_pretrained(tmp_path, device="cpu")


@pytest.mark.parametrize("finder", [ObjectFinder, ClipGrader])
def test_a_folder_without_a_model_is_named(finder: type[ObjectFinder] | type[ClipGrader], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        finder.from_pretrained(tmp_path, device="cpu")


@dataclass
class Boxes:
    """As ultralytics has them."""

    xyxy: torch.Tensor
    conf: torch.Tensor
    cls: torch.Tensor

    def __len__(self) -> int:
        return len(self.conf)


@dataclass
class Masks:
    data: torch.Tensor


@dataclass
class Result:
    """One result of ultralytics, as far as it is read."""

    boxes: Boxes
    masks: Masks | None = None
    names: dict[int, str] = field(default_factory=lambda: {0: "face", 1: "hand"})


def result(outlines: bool) -> Result:
    boxes = Boxes(torch.tensor([[-3.0, 4.5, 20.2, 30.0], [40.0, 0.0, 200.0, 20.0]]), torch.tensor([0.9, 0.4]), torch.tensor([0.0, 1.0]))
    planes = torch.zeros(2, 48, 80)
    planes[0, 10:20, 5:10] = 1
    return Result(boxes, Masks(planes) if outlines else None)


@pytest.mark.parametrize(("outlines", "areas"), [(False, [21 * 26, 40 * 20]), (True, [50])])
def test_results_of_ultralytics_are_read(outlines: bool, areas: list[int]) -> None:
    asked: list[dict[str, object]] = []

    def model(image: Image, **settings: object) -> list[Result]:
        asked.append(settings)
        return [result(outlines)]

    [critique] = YoloFinder(model, threshold=0.35).inspect([picture(0)])
    assert [int(region.mask.sum()) for region in critique.regions] == areas
    assert critique.regions[0].phrase == "face"
    assert critique.regions[0].score == pytest.approx(0.9)
    assert asked[0]["conf"] == 0.35
    hands = YoloFinder(model, labels=("hand",)).inspect([picture(0)])[0].regions
    assert [region.phrase for region in hands] == ([] if outlines else ["hand"])


def test_a_label_that_yolo_does_not_know_is_refused() -> None:
    class Model:
        names: ClassVar = {0: "face", 1: "hand"}

    assert YoloFinder(Model(), labels=("hand",)).labels == ("hand",)
    with pytest.raises(ConfigError, match=r"Unknown label 'faces'\. Did you mean 'face'"):
        YoloFinder(Model(), labels=("faces", "hand"))


def test_yolo_without_its_file_or_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="There is no file"):
        YoloFinder.from_pretrained(tmp_path / "face.pt")
    (tmp_path / "face.pt").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "ultralytics", None)  # type: ignore[arg-type]
    with pytest.raises(MissingDependency, match="pip install ultralytics"):
        YoloFinder.from_pretrained(tmp_path / "face.pt")
    package = ModuleType("ultralytics")
    package.YOLO = lambda path: path  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ultralytics", package)
    assert YoloFinder.from_pretrained(tmp_path / "face.pt").model == str(tmp_path / "face.pt")


# Graders


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = tokenizer()
    ends = {"bos_token_id": None, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    text = {**TEXT, **ends, "max_position_embeddings": 80}
    settings = CLIPConfig(text_config=text, vision_config={**EYES, "image_size": 32, "patch_size": 16}, projection_dim=16)
    folder = tmp_path_factory.mktemp("clip")
    randomized(CLIPModel(settings), 4).save_pretrained(folder)
    words.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_clip_grades_agree_with_its_own_logits(clip: Path) -> None:
    """The grade of the pipeline is the softmax over the texts that CLIP itself gives."""
    crops, phrases = [picture(0), picture(1, 40, 40), picture(2, 30, 60)], ["hand", "face", "hand"]
    good, bad = ("good {thing}",), ("bad {thing}", "odd {thing}")
    grades = ClipGrader.from_pretrained(clip, good=good, bad=bad, device="cpu").grade(crops, phrases)
    model, words, eyes = CLIPModel.from_pretrained(clip).eval(), tokenizer(), CLIPImageProcessorPil.from_pretrained(clip)
    for crop, phrase, grade in zip(crops, phrases, grades, strict=True):
        texts = words([text.replace("{thing}", phrase) for text in (*good, *bad)], padding=True, return_tensors="pt")
        seen = eyes(crop, return_tensors="pt")
        with torch.no_grad():
            logits = model(input_ids=texts.input_ids, attention_mask=texts.attention_mask, **seen).logits_per_image
        assert grade == pytest.approx(float(logits.softmax(-1)[0, 1:].sum()), abs=1e-5)
    assert len(set(grades)) == 3


def test_a_text_cannot_be_good_and_bad(clip: Path) -> None:
    with pytest.raises(ConfigError, match="a text that the other has not"):
        ClipGrader.from_pretrained(clip, good=("a {thing}",), bad=("a {thing}",), device="cpu")


def test_the_share_of_the_bad() -> None:
    answer = [{"label": "a", "score": 0.1}, {"label": "b", "score": 0.3}]
    assert share(answer, {"b"}) == pytest.approx(0.75)
    assert share([{"label": "a", "score": 0.0}], {"b"}) == 0.5


def test_a_reward_grades_by_its_distance_from_the_middle() -> None:
    grader = RewardGrader(Smoothness(), middle=-5.0, scale=2.0)
    rough = scratched(picture(0), [(x, 0, x + 1, 48) for x in range(0, 80, 2)])
    smooth, bad = grader.grade([picture(0), rough], ["hand", "hand"])
    assert smooth < 0.5 < bad
    score = Smoothness().score([picture(0)], [""])[0]
    assert smooth == pytest.approx(1 / (1 + np.exp((score + 5) / 2)))
    assert RewardGrader(Smoothness(), middle=1e9, scale=1e-3).grade([picture(0)], ["x"]) == [1.0]
    with pytest.raises(ConfigError, match="scale is 0"):
        RewardGrader(Smoothness(), middle=0, scale=0)


def test_a_reward_is_a_node_of_the_grader() -> None:
    sets = ["controller=detector", f"controller.finder={HERE}:two_boxes", "controller.grader=reward", "controller.grader.reward=likeness"]
    tree = config.load(["painter"], [*sets, "controller.grader.middle=-0.1", "controller.grader.scale=0.05"]).tree
    made = runner.make("controller", tree["controller"])
    assert isinstance(made.grader.reward, Likeness)
    with pytest.raises(ConfigError, match=r"controller\.grader\.middle is required"):
        config.load(["painter"], [*sets, "controller.grader.scale=0.05"])


def test_the_graded_critique_keeps_its_finder_words() -> None:
    class Says:
        def inspect(self, images: Sequence[Image]) -> list[Critique]:
            return [Critique(image.size, (Region(filled((0, 0, 9, 9), image.size), "face", "Near the edge."),)) for image in images]

    [critique] = GradedDetector(Says(), Noted()).inspect([picture(0)])
    [region] = critique.regions
    assert (region.phrase, region.explanation, region.score) == ("face", "Near the edge. Faulty with probability 0.25.", 0.25)
