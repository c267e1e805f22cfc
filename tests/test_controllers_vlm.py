"""A vision-language model as a controller: reading its answers, outlining its boxes, asking once more."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import SamConfig, SamModel, SamProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from refine import config, runner
from refine.chats.local import LocalChat
from refine.controllers.findings import BOX, Convention, read
from refine.controllers.sam import SamSegmenter
from refine.controllers.vlm import REMINDER, VlmController, filled, shown
from refine.errors import AnswerError, CheckpointError, ConfigError
from refine.replies import objects
from refine.types import Box, Question
from tests import tiny_chats
from tests.chat_server import says, serving
from tests.toys import picture

SIZE = (80, 48)
ONE = '{"bbox_2d": [8, 12, 40, 24], "label": "left hand", "reason": "Six fingers.", "category": "Structural", "confidence": 0.75}'


@pytest.mark.parametrize(
    "text",
    [
        f"[{ONE}]",
        f"```json\n[\n\t{ONE}\n]\n```",
        f"Here is what I found:\n```\n[{ONE}]\n```\nLet me know [if] you need {{more}}.",
        ONE,
        f'{{"artifacts": [{ONE}]}}',
        f'{{"summary": "one fault", "image": {{"width": 80}}, "faults": [{ONE}]}}',
        f"[{ONE}, " + '{"bbox_2d": [1, 2, 3',
        f"<think>Perhaps [{ONE}, {ONE}]?</think>\n[{ONE}]",
        f"[{ONE}".replace('"bbox_2d"', '"box"'),
        f"[{ONE}]".replace('"label"', '"phrase"').replace('"reason"', '"description"'),
        f"[{ONE}]".replace("0.75", "75"),
        f"[{ONE}]".replace("[8, 12, 40, 24]", '["8", 12.0, "40", 24]'),
        f"[{ONE}]".replace("[8, 12, 40, 24]", "[40, 24, 8, 12]"),
    ],
)
def test_what_models_write_is_read(text: str) -> None:
    reading = read(text, SIZE, SIZE, "pixels")
    assert reading is not None
    [finding] = reading.findings
    assert finding.box == (8, 12, 40, 24)
    assert (finding.phrase, finding.explanation, finding.category, finding.score) == ("left hand", "Six fingers.", "structure", 0.75)
    assert not reading.left_out


@pytest.mark.parametrize("text", ["[]", "```json\n[]\n```", '{"artifacts": []}', "Nothing is wrong: []"])
def test_a_clean_image_is_said_to_be_clean(text: str) -> None:
    reading = read(text, SIZE, SIZE, "pixels")
    assert reading is not None
    assert reading.findings == reading.left_out == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I see no artifacts.",
        "[{'bbox_2d': [1, 2, 3, 4]}]",
        '{"bbox_2d": [1, 2',
        "[1, 2, 3, 4]",
        '[{"label": "the light"}]',
        '{"clean": true}',
        "[" * 5000,
        '[{"bbox_2d": [900, 900, 950, 990], "label": "off"}]',
    ],
)
def test_what_cannot_be_read_is_not_clean(text: str) -> None:
    assert read(text, SIZE, SIZE, "pixels") is None


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ("[1, 2, 3]", "four numbers"),
        ('"1,2,3,4"', "four numbers"),
        ("[true, 2, 3, 4]", "four numbers"),
        ("[1, 2, null, 4]", "four numbers"),
        ("[1, 2, NaN, 4]", "four numbers"),
        ("[1, 2, 1e999, 4]", "four numbers"),
        ("[81, 0, 90, 9]", "outside"),
        ("[-9, 0, -2, 9]", "outside"),
        ("[5, 5, 5, 9]", "no inside"),
    ],
)
def test_a_bad_box_is_left_out_with_its_reason(box: str, why: str) -> None:
    reading = read(f'[{ONE}, {{"bbox_2d": {box}, "label": "hat"}}]', SIZE, SIZE, "pixels")
    assert reading is not None
    assert len(reading.findings) == 1
    assert reading.left_out[0].startswith("hat: ")
    assert why in reading.left_out[0]


@pytest.mark.parametrize("confidence", ["true", '"high"', "-1", "101", "null"])
def test_an_odd_confidence_counts_as_one(confidence: str) -> None:
    reading = read(f"[{ONE}]".replace("0.75", confidence), SIZE, SIZE, "pixels")
    assert reading is not None
    assert reading.findings[0].score == 1.0


def test_boxes_are_cut_at_the_border() -> None:
    reading = read('[{"bbox_2d": [-5, 40, 300, 300]}]', SIZE, SIZE, "pixels")
    assert reading is not None
    assert reading.findings[0].box == (0, 40, 80, 48)
    assert reading.findings[0].phrase == "artifact"


SIDES = st.integers(8, 400)


@given(SIDES, SIDES, st.data(), st.sampled_from(["pixels", "permille", "permille-yx"]))
def test_every_convention_comes_back_to_the_same_pixels(width: int, height: int, data: st.DataObject, convention: Convention) -> None:
    """A box written in a model's convention and read again covers the box, by less than two units of the convention."""
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    seen = (3 * width, 2 * height) if convention == "pixels" else (1000, 1000)
    xs = [value * seen[0] / width for value in (x0, x1)]
    ys = [value * seen[1] / height for value in (y0, y1)]
    box = [ys[0], xs[0], ys[1], xs[1]] if convention == "permille-yx" else [xs[0], ys[0], xs[1], ys[1]]
    reading = read(json.dumps([{"bbox_2d": box}]), (3 * width, 2 * height), (width, height), convention)
    assert reading is not None
    assert reading.findings[0].box == (x0, y0, x1, y1)


@given(st.text(alphabet='[]{}":,1a\\ ', max_size=40))
def test_any_text_is_read_without_an_error(text: str) -> None:
    objects(text, BOX)
    read(text, SIZE, SIZE, "permille")


@given(st.integers(8, 3000), st.integers(8, 3000))
def test_a_picture_is_shown_at_a_size_that_qwen_leaves_alone(width: int, height: int) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    side = 1024
    image = picture(0, width, height)
    seen = shown(image, side)
    assert max(seen.size) <= side
    kept = smart_resize(seen.height, seen.width, factor=28, min_pixels=56 * 56, max_pixels=28 * 28 * 1280 * 4)
    assert kept == (seen.height, seen.width)


def test_the_picture_shown_is_the_models_own_frame() -> None:
    seen = shown(picture(0, 317, 90), 252)
    grid = Qwen2VLImageProcessorPil()(seen, return_tensors="pt")["image_grid_thw"][0]
    assert (int(grid[2]) * 14, int(grid[1]) * 14) == seen.size


@dataclass
class Script:
    """Says what it is told to, and notes what it was asked."""

    answers: list[str]
    asked: list[Question] = field(default_factory=list)

    def ask(self, questions: Sequence[Question]) -> list[str]:
        self.asked += questions
        return [self.answers[len(self.asked) - len(questions) + at] for at in range(len(questions))]


def test_findings_become_regions_in_the_frame_of_each_image() -> None:
    images = [picture(0, 112, 56), picture(1, 56, 224), picture(2, 112, 112)]
    script = Script([f"[{ONE}]", "[]", '[{"bbox_2d": [0, 0, 56, 28], "label": "hat"}, {"label": "light"}]'])
    first, second, third = VlmController(script).inspect(images)
    assert first.size == (112, 56)
    assert np.array_equal(first.regions[0].mask, filled((8, 12, 40, 24), (112, 56)))
    assert (second.regions, second.summary) == ((), "Nothing found.")
    assert third.regions[0].mask.sum() == 56 * 28
    assert third.summary == "1 found. Left out: light: its box is not four numbers."
    assert [question.image.size for question in script.asked if question.image] == [(112, 56), (56, 224), (112, 112)]


class Obedient:
    """Writes the numbers of one box in the order that it is asked for."""

    def __init__(self, **numbers: int) -> None:
        self.numbers = numbers

    def ask(self, questions: Sequence[Question]) -> list[str]:
        orders = [re.findall(r"[xy][12]", question.text.split('"bbox_2d": [')[1].split("]")[0]) for question in questions]
        return [json.dumps([{"bbox_2d": [self.numbers[name] for name in order]}]) for order in orders]


@pytest.mark.parametrize("boxes", ["pixels", "permille", "permille-yx"])
def test_a_model_that_writes_boxes_as_it_is_asked_to_is_understood(boxes: Convention) -> None:
    scale = 1 if boxes == "pixels" else 1000 / 112
    chat = Obedient(x1=round(28 * scale), y1=0, x2=round(56 * scale), y2=round(112 * scale))
    [critique] = VlmController(chat, boxes=boxes).inspect([picture(0, 112, 112)])
    assert np.array_equal(critique.regions[0].mask, filled((28, 0, 56, 112), (112, 112)))


def test_a_large_image_is_shown_small_and_its_boxes_come_back() -> None:
    script = Script(['[{"bbox_2d": [0, 0, 28, 28]}]'])
    [critique] = VlmController(script, side=56).inspect([picture(0, 560, 560)])
    assert critique.regions[0].mask.sum() == 280 * 280


def test_an_unreadable_answer_is_asked_for_once_more() -> None:
    script = Script(["[]", "Sorry, what?", "[]"])
    critiques = VlmController(script).inspect([picture(0), picture(1)])
    assert [critique.summary for critique in critiques] == ["Nothing found."] * 2
    assert script.asked[2].text.endswith(REMINDER)
    assert script.asked[2].image is not None
    assert np.array_equal(np.asarray(script.asked[2].image), np.asarray(script.asked[1].image))


def test_two_unreadable_answers_are_an_error() -> None:
    with pytest.raises(AnswerError, match=r"did not answer with a list of boxes, twice: 'No idea'"):
        VlmController(Script(["What?", "No idea"])).inspect([picture(0)])


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SAM with random weights, saved as transformers saves it."""
    torch.manual_seed(1)
    settings = SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 8,
            "global_attn_indexes": [1], "window_size": 4, "num_pos_feats": 8, "mlp_dim": 32,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16, "num_hidden_layers": 2, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_depth": 2,
            "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sam")
    SamModel(settings).save_pretrained(folder)
    square = {"height": 64, "width": 64}
    SamImageProcessorPil(size={"longest_edge": 64}, pad_size=square).save_pretrained(folder)
    return folder


BOXES: list[Box] = [(4, 4, 60, 30), (30, 10, 31, 11), (0, 0, 80, 48)]


def test_sam_outlines_within_its_boxes(sam: Path) -> None:
    image = picture(0)
    masks = SamSegmenter.from_pretrained(sam, device="cpu").segment(image, BOXES)
    for mask, box in zip(masks, BOXES, strict=True):
        assert mask.shape == (48, 80)
        assert mask.dtype == np.bool_
        assert mask.any()
        assert not (mask & ~filled(box, image.size)).any()


def test_sam_is_called_as_transformers_calls_it(sam: Path) -> None:
    """The one-call way of transformers' documentation gives the same masks, however many boxes are decoded together."""
    image = picture(0)
    model, processor = SamModel.from_pretrained(sam).eval(), SamProcessor(SamImageProcessorPil.from_pretrained(sam))
    inputs = processor(image, input_boxes=[[list(map(float, box)) for box in BOXES]], return_tensors="pt")
    with torch.no_grad():
        out = model(pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"], multimask_output=False)
    planes = processor.image_processor.post_process_masks(out.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"])[0]
    ours = [SamSegmenter(model, processor, least=0.0, batch_size=size).segment(image, BOXES) for size in (1, 8)]
    for box, plane, *masks in zip(BOXES, planes, *ours, strict=True):
        inside = filled(box, image.size)
        wanted = plane[0].numpy() & inside
        for mask in masks:
            assert np.array_equal(mask, wanted if wanted.any() else inside)


def test_a_mask_that_misses_its_box_gives_way_to_the_box(sam: Path) -> None:
    strict = SamSegmenter.from_pretrained(sam, device="cpu", least=1.01)
    assert np.array_equal(strict.segment(picture(0), BOXES[:1])[0], filled(BOXES[0], SIZE))
    assert strict.segment(picture(0), []) == []


def test_a_folder_without_sam_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        SamSegmenter.from_pretrained(tmp_path)


def test_the_whole_controller_from_a_configuration(sam: Path) -> None:
    answer = '[{"bbox_2d": [100, 100, 800, 900], "label": "hand", "reason": "Fused fingers."}]'
    with serving(says(answer)) as story:
        tree = config.load(
            ["painter"],
            [
                "controller=vlm", "controller.boxes=permille", "controller.chat=endpoint", f"controller.chat.url={story.url}",
                "controller.chat.model=qwen", "controller.segmenter=sam", f"controller.segmenter.source={sam}",
            ],
        ).tree  # fmt: skip
        [critique] = runner.make("controller", tree["controller"]).inspect([picture(0)])
    [region] = critique.regions
    assert (region.phrase, region.explanation) == ("hand", "Fused fingers.")
    assert 0 < region.mask.sum() <= 56 * 40
    assert not (region.mask & ~filled((8, 4, 64, 44), SIZE)).any()
    assert config.check(tree).tree == tree


def test_a_random_model_that_sees_is_no_controller(tmp_path: Path) -> None:
    """Through every real class: its babble is refused, not taken for a clean image."""
    chat = LocalChat.from_pretrained(tiny_chats.seer(tmp_path), device="cpu", max_tokens=12)
    with pytest.raises(AnswerError, match="twice"):
        VlmController(chat, side=56).inspect([picture(0)])


def test_bounds() -> None:
    with pytest.raises(ConfigError, match="at least 56"):
        VlmController(Script([]), side=20)
    with pytest.raises(ConfigError, match=r"'pixel'.*Did you mean 'pixels'\?"):
        VlmController(Script([]), boxes="pixel")  # type: ignore[arg-type]
