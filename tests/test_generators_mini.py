"""The embedded generator: its tokenizer, its data, its training code, and the weights that ship."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from scipy import ndimage

from refine.embedded import WEIGHTS
from refine.generators import damage, drawn, grafts, mini, scenes, train_unet, train_vae, training
from refine.generators.adapter import DiffusersGenerator
from refine.stilllife import packing
from refine.stilllife.captions import VOCABULARY, caption, parse
from refine.stilllife.scene import sample_scene

SHIPPED = WEIGHTS / "mini" / "generator"
SEEDS = range(3)


def test_every_word_of_the_captions_is_one_token() -> None:
    tokenizer = mini.caption_tokenizer()
    assert all(len(tokenizer(word).input_ids) == 3 for word in VOCABULARY)
    assert tokenizer.decode(tokenizer("Ein Röhrchen", add_special_tokens=False).input_ids).replace(" ", "") == "einröhrchen"


def test_every_caption_fits() -> None:
    tokenizer = mini.caption_tokenizer()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng, count=3)
        assert train_vae.tokenise(tokenizer, [caption(scene), caption(scene, rng)]).shape == (2, mini.TOKENS)


def test_the_tokenizer_does_not_depend_on_the_order_of_words() -> None:
    words = ["grey", "green", "red", "reed", "e"]
    one, two = mini.build_tokenizer(words), mini.build_tokenizer(words[::-1])
    assert one.get_vocab() == two.get_vocab()
    assert all(len(one(word).input_ids) == 3 for word in words)


def test_standardised_latents_decode_to_the_same_picture() -> None:
    torch.manual_seed(0)
    vae = mini.build_vae((8, 8, 8, 8)).eval()
    pixels = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        before = vae.encode(pixels).latent_dist
        picture = vae.decode(before.mean).sample
        mini.standardise(vae, before.mean.mean((0, 2, 3)), before.mean.std((0, 2, 3)))
        after = vae.encode(pixels).latent_dist
        torch.testing.assert_close(vae.decode(after.mean).sample, picture, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.mean.std((0, 2, 3)), torch.ones(4))
    torch.testing.assert_close(after.std, before.std / before.mean.std((0, 2, 3))[:, None, None])


def test_cached_scenes_say_what_stands_where(tmp_path: Path) -> None:
    scenes.cache(tmp_path, 3, chunk=2)
    chunk = scenes.load(tmp_path, "images", "layout", "attributes", "captions")
    assert chunk["images"].shape == (3, 128, 128, 3)
    for seed in SEEDS:
        scene = sample_scene(np.random.default_rng(seed))
        assert chunk["captions"][seed, 0] == caption(scene)
        assert (chunk["attributes"][seed, :, 0] >= 0).sum() == len(scene.solids)
        assert set(np.unique(chunk["layout"][seed])) <= {-1, *range(len(scene.solids))}
    labels = train_unet.labels(torch.from_numpy(chunk["layout"]).long(), torch.from_numpy(chunk["attributes"]).long())
    assert labels.shape == (3, 4, 16, 16)
    assert ((labels == 0) == torch.from_numpy(chunk["layout"] < 0)[:, None]).all()


def test_training_runs_resumes_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_vae, "BATCH", 1)
    monkeypatch.setattr(train_unet, "BATCH", 2)
    scenes.cache(tmp_path, 3)
    assert train_vae.fit(tmp_path, tmp_path, steps=2, seconds=None) == 2
    train_vae.write_latents(tmp_path, tmp_path)
    assert train_unet.load_latents(tmp_path)["latents"].shape == (3, 4, 16, 16)
    assert train_unet.fit(tmp_path, steps=1, seconds=None) == 1
    assert train_unet.fit(tmp_path, steps=2, seconds=None) == 2
    mini.export(train_unet.pipeline(tmp_path), tmp_path / "out")
    assert DiffusersGenerator.from_pretrained(tmp_path / "out", steps=1, device="cpu").draw(["a red cube"], [0])[0].size == (128, 128)


def test_one_step_lowers_the_loss_on_its_own_batch() -> None:
    torch.manual_seed(0)
    chunk = scenes.make_chunk(range(2))
    vae, pixels = mini.build_vae(), train_vae.to_tensor(chunk["images"])
    optimizer = torch.optim.SGD(vae.parameters(), 0.01)
    losses = [train_vae.loss(vae, pixels, torch.Generator().manual_seed(0))["loss"] for _ in range(1)]
    losses[0].backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert train_vae.loss(vae, pixels, torch.Generator().manual_seed(0))["loss"] < losses[0]


@pytest.fixture(scope="module")
def shipped() -> DiffusersGenerator:
    return DiffusersGenerator.from_pretrained("mini:generator", steps=6, guidance_scale=3.0, device="cpu")


def test_the_shipped_weights_are_a_stock_folder_of_the_size_promised() -> None:
    sizes = [path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()]
    assert max(sizes) <= 16 * 2**20
    assert sum(sizes) <= 26 * 2**20
    assert json.loads((SHIPPED / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
    assert not any("_name_or_path" in path.read_text() for path in SHIPPED.rglob("*config.json"))


def test_the_shipped_generator_draws_the_colour_it_is_asked_for(shipped: DiffusersGenerator) -> None:
    prompts = [f"a large matte {colour} cube on a grey floor, light from the left" for colour in ("red", "green", "blue")]
    for channel, image in enumerate(shipped.draw(prompts, [0, 1, 2])):
        colours = np.asarray(image, int).reshape(-1, 3)
        excess = colours[:, channel] - np.delete(colours, channel, 1).max(1)
        assert (excess > 40).mean() > 0.02


def test_model_damage_has_a_truth_mask_where_the_picture_changed(shipped: DiffusersGenerator, tmp_path: Path) -> None:
    made = list(damage.samples(shipped.pipe, range(600_000, 600_004), steps=4))
    packing.save(packing.pack(made), tmp_path / "d.npz")
    with np.load(tmp_path / "d.npz") as file:
        assert file["images"].shape == (4, 128, 128, 3)
        assert len(file["owner"]) == len(file["masks"]) == len(file["kinds"]) == sum(len(one.regions) for one in made) > 0
    assert all(region.mask.any() for one in made for region in one.regions)


def test_drawings_and_their_repaints_are_written_for_a_reader_to_label(tmp_path: Path) -> None:
    training.main(["drawn", "--weights", str(SHIPPED), "--out", str(tmp_path / "d.npz"), "--n", "2", "--seed0", "600000"])
    with np.load(tmp_path / "d.npz") as file:
        images, prompts = file["images"], file["prompts"]
    assert images.shape == (4, 128, 128, 3)
    assert prompts[0] == prompts[2], "the first repaint is one of the first drawing"
    assert prompts[1] != prompts[3], "the second one repairs a damaged render"
    changed = (images[0] != images[2]).any(-1)
    assert 0.005 < changed.mean() < 0.3
    assert all(parse(prompt) is not None for prompt in prompts.tolist())


def test_a_pasted_repaint_keeps_what_lies_outside_its_rim() -> None:
    before, after = PIL.Image.new("RGB", (40, 24), (10, 20, 30)), PIL.Image.new("RGB", (40, 24), (200, 100, 0))
    mask = np.zeros((24, 40), np.bool_)
    mask[8:18, 10:24] = True
    result = np.asarray(drawn.pasted(before, after, mask))
    assert (result[13, 17] == (200, 100, 0)).all()
    assert (result[~ndimage.binary_dilation(mask, iterations=5)] == (10, 20, 30)).all()


def test_softening_keeps_what_is_there(shipped: DiffusersGenerator) -> None:
    image = PIL.Image.fromarray(scenes.make_chunk(range(1))["images"][0])
    error = np.asarray(damage.soften(shipped.pipe.vae, image), float) - np.asarray(image, float)
    assert 10 * np.log10(255**2 / (error**2).mean()) > 28


def test_a_graft_changes_one_patch_of_each_picture_and_nothing_else() -> None:
    latents = torch.randn(6, 4, 12, 16, generator=torch.Generator().manual_seed(0))
    grafted = grafts.graft(latents, np.random.default_rng(3))
    assert torch.equal(latents, torch.randn(6, 4, 12, 16, generator=torch.Generator().manual_seed(0))), "the input is left alone"
    for before, after in zip(latents, grafted, strict=True):
        rows, columns = torch.nonzero((before != after).any(0), as_tuple=True)
        assert len(rows), "every picture has a patch"
        assert max(rows.max() - rows.min(), columns.max() - columns.min()) < grafts.SIDES[1]
    assert torch.equal(grafted, grafts.graft(latents, np.random.default_rng(3)))


def test_the_goal_beneath_a_graft_is_the_whole_picture() -> None:
    """A denoiser that answers the velocity from the noised picture to the whole one has no loss, patch or not."""
    clean = torch.randn(4, 4, 16, 16)
    seen, noise = grafts.graft(clean, np.random.default_rng(0)), mini.build_scheduler()
    grafted = torch.tensor([True, True, False, False])
    times = torch.tensor([100, 700, 300, 999])
    batch = {
        "latents": clean, "seen": torch.where(grafted[:, None, None, None], seen, clean), "grafted": grafted, "times": times,
        "tokens": torch.zeros(4, 48, dtype=torch.long), "labels": torch.zeros(4, 4, 16, 16, dtype=torch.long),
    }  # fmt: skip

    def perfect(noisy: torch.Tensor, times: torch.Tensor, _tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        power = noise.alphas_cumprod[times][:, None, None, None]
        velocity = (power.sqrt() * noisy - clean) / (1 - power).sqrt()
        return velocity, torch.zeros(4, sum(len(group) + 1 for group in scenes.GROUPS), 16, 16)

    parts = train_unet.loss(perfect, noise, batch, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert parts["denoise"] < 1e-6


def test_the_denoiser_goes_on_from_a_pipeline_folder(tmp_path: Path) -> None:
    tokenizer = mini.caption_tokenizer()
    first = train_unet.Denoiser(tokenizer)
    pipe = mini.assemble(mini.build_vae((8, 8, 8, 8)), first.unet, first.text, tokenizer)
    mini.export(pipe, tmp_path)
    second = train_unet.Denoiser(tokenizer)
    second.continue_from(tmp_path)
    assert all(torch.equal(a.half(), b.half()) for a, b in zip(first.unet.parameters(), second.unet.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first.text.parameters(), second.text.parameters(), strict=True))
