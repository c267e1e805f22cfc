"""The measures of a controller: values worked out by hand, and what must hold for any input."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine.errors import CheckpointError, InputError
from refine.evals import controller, detection, perturb, published, sentences
from refine.evals.controller import Row, measure
from refine.evals.datasets.items import Item
from refine.overlap import Overlap
from refine.types import Critique, Mask, Region
from tests.toys import picture

ANSWER = "Upon examining the image. I have found: a hand."


def mask(*rows: str) -> Mask:
    """Crosses are inside."""
    return np.array([[cell == "x" for cell in row] for row in rows])


def item(truth: Mask | None, **more: object) -> Item:
    height, width = truth.shape if truth is not None else (30, 40)
    return Item("a", PIL.Image.new("RGB", (width, height)), truth, **more)  # type: ignore[arg-type]


def says(*masks: Mask, size: tuple[int, int] | None = None, **more: object) -> Critique:
    regions = tuple(Region(one, "the hand", "It has six fingers.") for one in masks)
    return Critique(size or (masks[0].shape[1], masks[0].shape[0]), regions, **more)  # type: ignore[arg-type]


def row(both: int, predicted: int, true: int, pixels: int, **more: object) -> Row:
    """A row with these pixel counts."""
    fields: dict[str, object] = {
        "id": "a", "condition": "none", "width": pixels, "height": 1, "regions": int(predicted > 0), "predicted": predicted, "both": both,
        "true": true, "clean": False, "fake": True, "fake_probability": None, "answer": "", "reference": "", "rouge_l": None,
        "rouge_l_faults": None,
    }  # fmt: skip
    return Row(**(fields | more))  # type: ignore[arg-type]


masks = st.integers(0, 1 << 32).map(lambda seed: np.random.default_rng(seed).random((5, 7)) < 0.4)


def test_localisation_by_hand() -> None:
    truth, found = mask("xxx.", "x..."), mask("x...", "...x")
    measured = measure(item(truth), says(found)).overlap
    assert measured == Overlap(both=1, predicted=2, true=4, pixels=8)
    assert measured.f1 == pytest.approx(2 * 1 / (2 + 4))
    assert measured.iou == pytest.approx(1 / 5, abs=1e-6)
    assert measured.miou == pytest.approx((1 / 5 + 3 / 7) / 2, abs=1e-6)


def test_regions_are_united_before_they_are_compared() -> None:
    truth = mask("xxx.", "x...")
    assert measure(item(truth), says(mask("xx..", "...."), mask(".xx.", "x..."))).overlap == Overlap(4, 4, 4, 8)


def test_nothing_to_find_and_nothing_found() -> None:
    nothing = np.zeros((3, 5), np.bool_)
    quiet = measure(item(nothing), says(size=(5, 3))).overlap
    assert quiet is not None and quiet.f1 == 1 and quiet.iou == 0
    assert quiet.miou == pytest.approx(0.5, abs=1e-6)  # the published measure, odd as it is
    loud = measure(item(nothing), says(~nothing)).overlap
    assert loud is not None and loud.f1 == 0


@given(masks)
def test_perfect_masks_score_one(truth: Mask) -> None:
    truth[0, 0], truth[1, 1] = True, False
    found = controller.localisation([one for one in [measure(item(truth), says(truth)).overlap] if one])
    assert all(value.estimate == pytest.approx(1, abs=1e-6) for value in found.values())


@given(masks, masks)
def test_f1_is_symmetric_and_bounded(first: Mask, second: Mask) -> None:
    one, other = measure(item(first), says(second)).overlap, measure(item(second), says(first)).overlap
    assert one and other and one.f1 == other.f1 and one.miou == pytest.approx(other.miou)
    assert 0 <= one.iou <= one.f1 <= 1


@given(st.permutations([(1, 2, 4, 8), (3, 3, 3, 20), (0, 5, 1, 9), (2, 2, 6, 10)]))
def test_the_order_of_pictures_does_not_matter(counts: list[tuple[int, int, int, int]]) -> None:
    found = controller.localisation([Overlap(*one) for one in counts])
    assert found["F1"].estimate == pytest.approx((2 / 6 + 1 + 0 + 4 / 8) / 4)
    assert found["pooled F1"].estimate == pytest.approx(2 * 6 / (12 + 14))
    assert found["pooled IoU"].estimate == pytest.approx(6 / (12 + 14 - 6))
    assert controller.estimates([Overlap(*one) for one in counts]) == pytest.approx({name: one.estimate for name, one in found.items()})


def test_a_mean_has_an_interval_and_a_single_picture_has_none() -> None:
    many = controller.localisation([Overlap(k, 10, 10, 100) for k in range(11)])["F1"]
    assert many.estimate == pytest.approx(0.5) and many.low < 0.5 < many.high
    assert np.isnan(controller.localisation([Overlap(1, 2, 4, 8)])["F1"].low)
    assert controller.localisation([]) == {}


def test_clean_pictures_count_for_false_alarms_only() -> None:
    rows = [row(1, 2, 4, 8), row(0, 0, 0, 8, clean=True), row(0, 3, 0, 8, clean=True), row(0, 0, 2, 8)]
    assert controller.overlaps(rows) == [Overlap(1, 2, 4, 8), Overlap(0, 0, 2, 8)]
    shares = controller.alarms(rows)
    assert shares["clean called clean"].estimate == 0.5 and shares["faulty called faulty"].estimate == 0.5


def test_the_floors_need_no_controller() -> None:
    one = Overlap(1, 2, 4, 8)
    assert controller.finds_nothing(one).f1 == 0 and controller.finds_nothing(one).miou == pytest.approx(4 / 8 / 2, abs=1e-6)
    assert controller.marks_everything(one).f1 == pytest.approx(2 * 4 / (8 + 4))


def test_plain_and_weighted_means_differ() -> None:
    rows = [row(1, 1, 1, 8, groups=("few",)), *[row(0, 1, 1, 8, groups=("many",))] * 3, row(1, 1, 1, 8, groups=("few", "many"))]
    groups = controller.by_group(rows)
    assert {name: len(counts) for name, counts in groups.items()} == {"few": 2, "many": 4}
    assert controller.plain_mean(groups, "F1").estimate == pytest.approx((1 + 1 / 4) / 2)
    assert controller.localisation(controller.overlaps(rows))["F1"].estimate == pytest.approx(2 / 5)
    assert np.isnan(controller.plain_mean({"one": groups["few"][:1], "many": groups["many"]}, "F1").low)


def test_changes_are_over_the_same_pictures() -> None:
    before = [row(2, 2, 2, 8, id="a"), row(1, 2, 2, 8, id="b"), row(0, 2, 2, 8, id="only before")]
    after = [row(1, 2, 2, 8, id="b"), row(1, 2, 2, 8, id="a"), row(2, 2, 2, 8, id="only after")]
    assert controller.change(before, after, "F1").estimate == pytest.approx((-0.5 + 0) / 2)


def test_explanations_in_the_published_form() -> None:
    truth = np.ones((3, 5), np.bool_)
    whole = f"{ANSWER} the hand:It has six fingers."
    target = item(truth, text=whole, parts=(("the hand", "It has six fingers."),))
    told = measure(target, says(truth, summary=ANSWER))
    assert told.answer == whole and told.rouge_l == told.rouge_l_faults == 1
    silent = measure(target, says(size=(5, 3), summary=ANSWER))
    assert silent.rouge_l == pytest.approx(2 * 9 / (9 + 15))  # the opening alone earns this much
    assert silent.rouge_l_faults == 0
    assert measure(item(truth), says(truth)).rouge_l is None
    assert measure(item(truth, text="clean", clean=True), says(truth)).rouge_l is None
    found = controller.explanation([told, silent])
    assert found["ROUGE-L of the faults"].estimate == 0.5 and "CSS" not in found


def test_rows_survive_json() -> None:
    one = measure(item(np.ones((3, 5), np.bool_), groups=("x",)), says(np.ones((3, 5), np.bool_), fake_probability=0.25))
    assert Row.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_masks_in_another_frame_are_refused() -> None:
    with pytest.raises(InputError, match=r"mask of \(5, 3\) for a picture of \(3, 5\)"):
        measure(item(np.ones((3, 5), np.bool_)), says(np.ones((5, 3), np.bool_)))


def test_average_precision_by_hand() -> None:
    scores, fake = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert detection.average_precision(scores, fake) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert detection.average_precision(scores[::-1], fake[::-1]) == pytest.approx(5 / 6)
    assert detection.average_precision(scores**3, fake) == pytest.approx(5 / 6)
    assert detection.average_precision(np.full(4, 0.3), fake) == 0.5  # one step: the share of fakes
    assert detection.average_precision(-scores, fake) == pytest.approx(1 / 2 * 1 / 2 + 1 / 2 * 2 / 4)


@given(st.permutations([(0.9, True), (0.9, False), (0.7, True), (0.2, False), (0.1, True)]))
def test_average_precision_does_not_depend_on_the_order_of_equal_scores(pairs: list[tuple[float, bool]]) -> None:
    scores, fake = np.array([score for score, _ in pairs]), np.array([one for _, one in pairs])
    assert detection.average_precision(scores, fake) == pytest.approx(1 / 3 * 1 / 2 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 5)


def test_detection_by_hand() -> None:
    found = detection.detection([0.9, 0.5, 0.2, 0.8], [True, True, False, False])
    assert (found.images, found.accuracy.estimate, found.real, found.fake) == (4, 0.5, 0.5, 0.5)  # 0.5 is not above the boundary
    assert found.precision is not None and found.precision.low <= found.precision.estimate <= found.precision.high
    alone = detection.detection([0.9, 0.4], [True, True])
    assert alone.real is None and alone.fake == 0.5 and alone.precision is None
    both = detection.mean_accuracy([found, detection.detection([0.9] * 8, [True] * 8)])
    assert both.estimate == 0.75 and both.low < 0.75 < both.high


@pytest.mark.parametrize("text", ["jpeg:50", "noise:0.1", "blur:5", "blur:15"])
def test_perturbations_keep_the_size_and_repeat(text: str) -> None:
    image, worse = picture(3), perturb.parse(text)
    assert str(worse) == text
    first = worse(image, 7)
    assert first.size == image.size and first.mode == "RGB" and first.tobytes() != image.tobytes()
    assert first.tobytes() == worse(image, 7).tobytes()


def test_noise_has_the_level_it_says_and_its_own_seed() -> None:
    grey = PIL.Image.new("RGB", (120, 80), (128, 128, 128))
    noisy = np.asarray(perturb.parse("noise:0.1")(grey, 1), np.float64)
    assert noisy.std() == pytest.approx(25.5, rel=0.03) and noisy.mean() == pytest.approx(128, abs=0.5)
    assert not np.array_equal(noisy, np.asarray(perturb.parse("noise:0.1")(grey, 2)))


def test_blur_spreads_a_point_by_its_kernel() -> None:
    pixels = np.zeros((9, 11, 3), np.uint8)
    pixels[4, 5] = 255
    spread = np.asarray(perturb.parse("blur:3")(PIL.Image.fromarray(pixels), 0))[3:6, 4:7, 0]
    assert spread.tolist() == [[16, 32, 16], [32, 64, 32], [16, 32, 16]]
    pixels[:], pixels[0, 0] = 0, 255
    corner = np.asarray(perturb.parse("blur:3")(PIL.Image.fromarray(pixels), 0))[..., 0]
    assert (
        corner[:2, :2].tolist() == [[64, 32], [32, 16]] and not corner[2:].any() and not corner[:, 2:].any()
    )  # the edge is not doubled
    assert perturb.kernel(11)[5] == pytest.approx(0.2005654)  # sigma 2 over 11 pixels: 1 / sum of exp(-k² / 8)
    for size in range(3, 33, 2):
        weights = perturb.kernel(size)
        assert len(weights) == size and weights.sum() == pytest.approx(1) and (weights == weights[::-1]).all()


@pytest.mark.parametrize(
    "text", ["jpeg", "jpeg:0", "jpeg:96", "jpeg:50.5", "noise:25.5", "noise:0", "blur:4", "blur:1", "rain:3", "blur:-3"]
)
def test_perturbations_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=text):
        perturb.parse(text)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT that knows letters, as a folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), ".", ":"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 160}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_sentences_are_means_over_their_own_tokens(bert: Path) -> None:
    encoder = sentences.MeanPooling.from_pretrained(bert)
    texts = ["the hand", "the hand has six fingers and no thumb", "a"]
    together, apart = encoder.encode(texts), np.concatenate([encoder.encode([text]) for text in texts])
    assert together.shape == (3, 16) and together.dtype == np.float32
    assert np.abs(together - apart).max() < 1e-5  # padding does not count
    assert np.abs(encoder.encode(["x " * 400]) - encoder.encode(["x " * 126])).max() < 1e-6  # 128 pieces, two of them special


def test_css_of_equal_and_of_empty_texts(bert: Path) -> None:
    encoder = sentences.MeanPooling.from_pretrained(bert)
    same, other, empty = sentences.similarities(encoder, ["the hand", "the hand", ""], ["the hand", "zzz:zz", "the hand"])
    assert same == pytest.approx(1, abs=1e-6) and other < 1 and empty == 0
    assert sentences.similarities(encoder, [], []) == []
    with pytest.raises(CheckpointError, match="Cannot load a sentence encoder"):
        sentences.MeanPooling.from_pretrained(bert / "gone")


def test_published_rows_are_consistent() -> None:
    means = {one.method: one.figures for one in published.rows("SynthScars", "mIoU") if "table 2" in one.source}
    assert means["LEGION"] == {"mIoU": 58.13, "F1": 34.54} and means["TruFor"] == {"mIoU": 48.60, "F1": 15.29}
    repeated = {one.method: one.figures for one in published.rows("SynthScars", "mIoU") if "table 10" in one.source}
    assert means["PAL4VST"] == repeated["PAL4VST"]  # two tables of the paper agree there
    assert len(list(itertools.chain(*published.DETECTION_GROUPS.values()))) == 19
    assert all(len(figures) == len(published.DETECTION_GROUPS) for figures in published.DETECTION.values())
    for one in published.ROWS:
        assert set(one.figures) <= set(published.FIGURES) and all(0 <= value <= 100 for value in one.figures.values()) and one.source
        assert one.condition == "none" or str(perturb.parse(one.condition)) == one.condition
