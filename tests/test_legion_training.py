"""LEGION's training: conversations, caches, losses against values worked out by hand, and every stage for two real steps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, SamConfig

from refine.controllers.legion import cache as caches
from refine.controllers.legion import data, stages, training
from refine.controllers.legion.answers import read_answer
from refine.controllers.legion.cache import Cache
from refine.controllers.legion.configuration import IGNORE, LegionConfig
from refine.controllers.legion.controller import LegionController
from refine.controllers.legion.evaluation import matched, measures, table
from refine.controllers.legion.mini import mini_processor
from refine.controllers.legion.modeling import LegionModel
from refine.controllers.legion.processing import LegionProcessor
from refine.controllers.legion.towers import dense, soft_dice, whiten
from refine.embedded import WEIGHTS
from refine.errors import InputError
from refine.stilllife import packing
from refine.stilllife.damage import CATALOGUE, sample_damage
from refine.stilllife.dataset import read_synthscars, write_synthscars
from refine.types import Category, Critique, Mask, Region


def box(x0: int, x1: int, shape: tuple[int, int] = (6, 10)) -> Mask:
    mask = np.zeros(shape, np.bool_)
    mask[1:4, x0:x1] = True
    return mask


def region(x0: int, x1: int, phrase: str = "the cube", category: Category | None = "structure") -> Region:
    return Region(box(x0, x1), phrase, "It leans.", category)


@pytest.fixture(scope="module")
def cache() -> Cache:
    return caches.build(5, first_seed=10, clean=0.9, size=64)


@pytest.fixture(scope="module")
def processor() -> LegionProcessor:
    return mini_processor(training.catalogue_texts())


@pytest.fixture
def tiny(processor: LegionProcessor) -> tuple[LegionModel, LegionProcessor]:
    """A random model of 64 px with every part."""
    small = LegionProcessor(processor.tokenizer, 64, 64, 64, instruction="What is wrong?")
    torch.manual_seed(0)
    clip = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=64, patch_size=16)
    llama = LlamaConfig(
        vocab_size=len(processor.tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    )
    sam = SamConfig(
        vision_config={
            "hidden_size": 32, "mlp_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 8,
            "window_size": 4, "global_attn_indexes": [1], "output_channels": 32, "num_pos_feats": 16, "initializer_range": 0.02,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 8, "image_embedding_size": 8, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )  # fmt: skip
    config = LegionConfig(
        clip_config=clip, llama_config=llama, sam_config=sam, seg_token_id=processor.tokenizer.id("[SEG]"), detector_hidden=16
    )
    return LegionModel(config), small


# Conversations


def test_answer_has_the_published_form() -> None:
    text = data.answer_text([region(1, 3), region(5, 7, "the sphere", None)])
    assert text == (
        "Upon examining the image. I have found: one structural artifact and one other artifact.\n"
        "To elaborate, I have found the following artifacts. "
        "<p> the cube </p> [SEG]:Structural artifact. It leans.<p> the sphere </p> [SEG]:It leans."
    )


def test_clean_image_has_an_answer_without_masks() -> None:
    assert data.answer_text([]) == data.CLEAN_ANSWER
    assert "[SEG]" not in data.CLEAN_ANSWER


def test_summary_comes_back_from_a_published_caption() -> None:
    caption = "'Upon examining the image. I have found: a strange hand. \nTo elaborate, I have found the following artifacts. a:b.'"
    assert data.summary_of(caption) == "a strange hand."
    assert data.summary_of("a photograph") is None


@pytest.mark.parametrize("category", ["physics", "structure", "distortion"])
def test_category_survives_the_controllers_reading(processor: LegionProcessor, category: Category) -> None:
    ids = processor.answer_ids(data.answer_text([region(1, 3, category=category)]))
    finding = read_answer(ids, processor.tokenizer).findings[0]
    assert finding.category == category
    assert finding.phrase == "the cube"


def test_reading_order_is_left_to_right() -> None:
    right, left = region(7, 9, "right"), region(0, 2, "left")
    assert [r.phrase for r in data.in_reading_order([right, left])] == ["left", "right"]


def test_every_catalogue_text_is_made_of_whole_words(processor: LegionProcessor) -> None:
    tokenizer = processor.tokenizer
    texts = [kind.explanations[0] for kind in CATALOGUE.values()]
    for text in texts:
        words = text.format(name="red cone", shape="cone", colour="red", side="left", away="right")
        assert len(tokenizer.encode(words, bos=False)) <= 2 * len(words.split())


def test_collate_pads_and_hides_the_prompt(processor: LegionProcessor) -> None:
    masks = [torch.ones(1, 6, 10), torch.zeros(0, 6, 10)]
    batch = data.collate(processor, [data.answer_text([region(1, 3)]), data.CLEAN_ANSWER], masks)
    prompt = len(processor.prompt_ids())
    assert (batch.labels[:, :prompt] == IGNORE).all()
    assert batch.attention_mask.sum(1)[0] > batch.attention_mask.sum(1)[1]
    assert (batch.labels[1][batch.attention_mask[1] == 0] == IGNORE).all()
    last = batch.labels[1][batch.attention_mask[1] == 1][-1]
    assert int(last) == processor.tokenizer.eos_id


def test_collate_drops_masks_whose_tag_was_cut_off(processor: LegionProcessor) -> None:
    answer = data.answer_text([region(1, 3), region(5, 7)])
    ids = processor.training_ids(answer)[0]
    first = ids.index(processor.tokenizer.id("[SEG]"))
    batch = data.collate(processor, [answer], [torch.ones(2, 6, 10)], longest=first + 1)
    assert len(batch.masks[0]) == 1


# Caches


def test_cache_holds_what_was_drawn(cache: Cache) -> None:
    damaged = sorted(set(cache.owner.tolist()))
    assert 0 < len(damaged) < len(cache)
    for row in damaged:
        for found in cache.regions(row):
            assert found.mask.shape == (64, 64)
            assert found.mask.any()
            assert found.category == CATALOGUE[packing.KINDS[cache.kinds[cache.faults(row)[0]]]].category or len(cache.faults(row)) > 1


def test_cache_round_trip(cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "part.npz"
    caches.save(cache, path)
    twice = caches.load([path, path])
    assert len(twice) == 2 * len(cache)
    assert twice.owner.max() == len(cache) + cache.owner.max()
    row = int(cache.owner[0])
    for first, second in zip(cache.regions(row), twice.regions(row + len(cache)), strict=True):
        assert (first.mask == second.mask).all()
        assert first.explanation == second.explanation


def test_cache_is_a_function_of_its_seeds(cache: Cache) -> None:
    again = caches.build(5, first_seed=10, clean=0.9, size=64, chunk=2)
    assert (again.images == cache.images).all()
    assert (again.masks == cache.masks).all()


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, a=np.zeros(3))
    with pytest.raises(InputError, match="no cache of training images"):
        caches.load([path])


def test_dense_truth_mirrors(cache: Cache) -> None:
    batch = dense(cache, np.arange(2))
    back = batch.mirrored().mirrored()
    assert (back.images == batch.images).all()
    assert (batch.mirrored().light == 1 - batch.light).all()
    assert batch.faults.shape == (2, len(packing.KINDS), 32, 32)


def test_whitened_patches_are_uncorrelated() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.nn.functional.avg_pool2d(torch.rand(200, 3, 16, 24, generator=rng), 3, 1, 1)  # neighbours alike, as in pictures
    embedding = torch.nn.Conv2d(3, 12, 4, 4)
    whiten(embedding, images, floor=0.0)
    found = embedding(images).permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(torch.cov(found), torch.eye(12), atol=2e-3, rtol=0)
    torch.testing.assert_close(found.mean(1), torch.zeros(12), atol=1e-3, rtol=0)


# Losses


def test_dice_by_hand() -> None:
    logits, truth = torch.full((2, 3), 50.0), torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    assert float(stages.dice(logits, truth)) == pytest.approx(1 - 2 * 1 / (6 + 1), abs=1e-3)  # the guard of 1e-6 weighs 1e-3 here
    assert float(stages.dice(torch.full((2, 3), -50.0), truth)) == pytest.approx(1.0, abs=1e-3)


def test_soft_dice_of_a_perfect_mask_is_zero() -> None:
    truth = torch.zeros(1, 2, 4, 6)
    truth[..., 2:] = 1
    assert float(soft_dice(truth, truth)) == pytest.approx(0.0, abs=1e-6)


def test_losses_of_an_untrained_model(tiny: tuple[LegionModel, LegionProcessor]) -> None:
    model, processor = tiny
    images = [sample_damage(np.random.default_rng(s), size=64, faults=1).image.resize((60, 40)) for s in (1, 2)]
    truth = [[Region(box(2, 20, (40, 60)), "the cube", "It leans.", "structure")], []]
    answers = [data.answer_text(found) for found in truth]
    losses = stages.stage1_losses(model, stages.image_lesson(model, processor, images, truth, answers))
    assert float(losses["ce"].detach()) == pytest.approx(math.log(len(processor.tokenizer)), rel=0.1)
    assert float(losses["bce"].detach()) == pytest.approx(math.log(2), rel=0.35)
    assert 0 < float(losses["dice"].detach()) < 1
    weighted = losses["ce"] + 0.4 * losses["bce"] + 0.2 * losses["dice"]
    assert float(stages.total(losses).detach()) == pytest.approx(float(weighted.detach()))


def test_batch_without_masks_has_no_mask_loss(tiny: tuple[LegionModel, LegionProcessor]) -> None:
    model, processor = tiny
    image = sample_damage(np.random.default_rng(3), size=64, faults=0).image
    losses = stages.stage1_losses(model, stages.image_lesson(model, processor, [image], [[]], [data.CLEAN_ANSWER]))
    assert float(losses["bce"]) == float(losses["dice"]) == 0


# Which weights learn


def test_published_stage1_trains_what_the_paper_trains(tiny: tuple[LegionModel, LegionProcessor]) -> None:
    model, _ = tiny
    stages.choose_stage1(model, lora=True)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(
        "lora_" in n or n.startswith(("llm.lm_head", "llm.model.embed_tokens", "sam.mask_decoder", "text_hidden_fcs")) for n in learning
    )
    adapters = {n for n in learning if "lora_" in n}
    assert len(adapters) == 2 * 2 * model.config.llama_config.num_hidden_layers
    assert all(".q_proj." in n or ".v_proj." in n for n in adapters)


def test_adapters_fold_into_the_weights(tiny: tuple[LegionModel, LegionProcessor]) -> None:
    model, _ = tiny
    names = set(model.state_dict())
    stages.choose_stage1(model, lora=True)
    torch.manual_seed(1)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p)
    model.eval()
    ids = torch.tensor([[1, 5, 6, 7]])
    before = model.llm(ids).logits
    stages.merge_lora(model)
    assert set(model.state_dict()) == names
    torch.testing.assert_close(model.llm(ids).logits, before, rtol=1e-4, atol=1e-5)


def test_stage2_trains_only_the_detector(tiny: tuple[LegionModel, LegionProcessor]) -> None:
    model, _ = tiny
    stages.choose_stage2(model)
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {"detector"}


# Stages, for real


def test_stages_on_cached_images(tiny: tuple[LegionModel, LegionProcessor], cache: Cache, tmp_path: Path) -> None:
    model, processor = tiny
    budget = training.Budget(tmp_path, steps=2, seconds=None, seed=0, batch=2, lr=1e-3)
    towers = {name: p.clone() for name, p in model.clip.named_parameters()}
    source = stages.cached_source(cache, stages.extract(model, cache), processor, size=2)
    training.stage1(model, processor, source, budget, lora=False)
    training.stage2(model, processor, *training.class_tokens(model, cache), budget)
    assert all((p == towers[name]).all() for name, p in model.clip.named_parameters())
    size = training.export(tmp_path / "stage2", tmp_path / "weights")
    assert 0 < size < 4_000_000
    critique = LegionController.from_pretrained(tmp_path / "weights", max_new_tokens=4).inspect(
        [sample_damage(np.random.default_rng(5), size=64).image.resize((50, 70))]
    )[0]
    assert critique.size == (50, 70)
    assert critique.fake_probability is not None


def test_published_stage1_on_a_synthscars_folder(tiny: tuple[LegionModel, LegionProcessor], tmp_path: Path) -> None:
    model, processor = tiny
    write_synthscars(tmp_path / "data", "train", [sample_damage(np.random.default_rng(s), size=64, faults=1) for s in (1, 2, 3)])
    items = read_synthscars(tmp_path / "data", "train")
    budget = training.Budget(tmp_path / "out", steps=2, seconds=None, seed=0, batch=2, lr=1e-4)
    names = set(model.state_dict())
    training.stage1(model, processor, stages.synthscars_source(model, processor, items, 2), budget, lora=True)
    assert set(model.state_dict()) == names
    assert (tmp_path / "out" / "stage1" / "config.json").exists()


@pytest.mark.parametrize("tower", ["clip", "sam"])
def test_pretraining_moves_one_tower(tower: str, tmp_path: Path) -> None:
    cache = caches.build(2, size=128)
    budget = training.Budget(tmp_path, steps=2, seconds=None, seed=0, batch=2, lr=1e-3)
    model = training.pretrain(cache, budget, tower)
    fresh = training.build_mini(mini_processor(training.catalogue_texts()).tokenizer, 0)
    moved = {
        name: any(not torch.equal(p, q) for p, q in zip(getattr(model, name).parameters(), getattr(fresh, name).parameters(), strict=True))
        for name in ("clip", "sam", "llm")
    }
    assert moved == {"clip": tower == "clip", "sam": tower == "sam", "llm": False}


@pytest.mark.parametrize("further", [False, True])
def test_a_clip_tower_begins_as_a_copy_of_the_sam_tower_or_goes_on_by_itself(further: bool, tmp_path: Path) -> None:
    cache = caches.build(2, size=128)
    begin = training.build_mini(mini_processor(training.catalogue_texts()).tokenizer, 3)
    budget = training.Budget(tmp_path, steps=1, seconds=None, seed=0, batch=2, lr=1e-9)
    model = training.pretrain(cache, budget, "clip", begin, further)
    own, theirs = model.clip.state_dict(), begin.clip.state_dict()
    assert all(torch.allclose(own[name], theirs[name], atol=1e-6) for name in own) == further


def test_stage_1_goes_on_with_towers_that_were_trained_further(tmp_path: Path) -> None:
    begin = training.build_mini(mini_processor(training.catalogue_texts()).tokenizer, 3)
    budget = training.Budget(tmp_path, steps=1, seconds=None, seed=0, batch=2, lr=1e-3)
    caches.save(caches.build(2, size=128), tmp_path / "some.npz")
    trained = {tower: training.pretrain(caches.load([tmp_path / "some.npz"]), budget, tower, begin, True) for tower in ("clip", "sam")}
    begin.save_pretrained(tmp_path / "begin")
    mini_processor(training.catalogue_texts()).save_pretrained(tmp_path / "begin")
    options = {"--data": tmp_path / "some.npz", "--model": tmp_path / "begin", "--out": tmp_path, "--steps": 1, "--batch": 2}
    training.main(["stage1", "--further", *(str(word) for pair in options.items() for word in pair)])
    after = training.load(tmp_path / "stage1")[0]
    for name, value in trained["clip"].clip.state_dict().items():
        assert torch.equal(after.clip.state_dict()[name], value.float())
    for name, value in trained["sam"].sam.vision_encoder.state_dict().items():
        assert torch.equal(after.sam.vision_encoder.state_dict()[name], value.float())


def test_a_blend_lies_between_two_models_and_refuses_what_does_not_fit(
    tiny: tuple[LegionModel, LegionProcessor], tmp_path: Path
) -> None:
    model, processor = tiny
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for name, shift in (("one", 0.0), ("two", 1.0)):
        model.load_state_dict({key: value + shift if value.is_floating_point() else value for key, value in before.items()})
        model.save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
    words = ["blend", "--model", str(tmp_path / "one"), "--weights", str(tmp_path / "out")]
    training.main([*words, "--other", str(tmp_path / "two"), "--share", "0.25"])
    blended = training.load(tmp_path / "out")[0].state_dict()
    for name, value in before.items():
        assert torch.allclose(blended[name].float(), value.float() + 0.25 * value.is_floating_point(), atol=5e-3)
    with pytest.raises(InputError, match="different forms"):
        training.blend(tmp_path / "one", WEIGHTS / "mini" / "legion", 0.5, tmp_path / "x")
    with pytest.raises(InputError, match="--share from 0 to 1"):
        training.main([*words, "--other", str(tmp_path / "two"), "--share", "1.5"])


def test_stage_without_the_one_before_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Run the stage before"):
        training.load(tmp_path)


# Evaluation


def test_measures_of_the_truth_are_perfect() -> None:
    samples = [sample_damage(np.random.default_rng(s), size=64, faults=f) for s, f in ((1, 1), (2, 2), (3, 0))]
    said = [
        Critique((64, 64), tuple(Region(r.mask, r.phrase, t, r.category) for r, (_, t) in zip(
            data.in_reading_order(s.regions), data.told(s.regions), strict=True)), fake_probability=float(bool(s.regions)))
        for s in samples
    ]  # fmt: skip
    found = measures(samples, said)
    assert {name: value for name, value in found.items() if value != pytest.approx(1.0, abs=1e-5)} == {}
    assert "reached" in table(found)


def test_faults_are_matched_one_to_one() -> None:
    true = [region(0, 4, "a"), region(5, 9, "b")]
    predicted = [region(0, 9, "both"), region(5, 9, "second")]
    assert [(t.phrase, p.phrase) for t, p in matched(true, predicted)] == [("b", "second"), ("a", "both")]
