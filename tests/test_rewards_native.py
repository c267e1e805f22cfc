"""HPSv2 and ImageReward from checkpoints in their original layouts.

Two proofs: small random checkpoints whose scores are computed a second time, straight from the tensors; and the scores that the
original code gave (folder named by REFINE_GOLDEN_REWARDS).
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from refine.errors import CheckpointError, InputError, UnknownName
from refine.evals import clip_text, hps, imagereward, preprocess
from refine.evals.hps import HPSv2
from refine.evals.imagereward import ImageReward

PROMPTS = ["a red cube left of a small cone", "two HORNS &amp; a “cat”", "b"]


def pictures() -> list[PIL.Image.Image]:
    rng = np.random.default_rng(3)
    return [PIL.Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for h, w in ((40, 60), (56, 56), (91, 33))]


# ---- a second computation of both models, from tensors in the original layout


def random_like(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) * 0.2 + float("norm" in key or "ln_" in key) for key, shape in shapes.items()}


def norm(x: Tensor, s: dict[str, Tensor], key: str, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], s[key + ".weight"], s[key + ".bias"], eps)


def linear(x: Tensor, s: dict[str, Tensor], key: str) -> Tensor:
    return x @ s[key + ".weight"].T + s[key + ".bias"]


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return ((logits if mask is None else logits + mask).softmax(-1) @ v).transpose(1, 2).flatten(2)


def hps_shapes(width: int = 16, patch: int = 14, layers: int = 2, text: int = 8, out: int = 6) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (width,), "visual.positional_embedding": (17, width), "visual.proj": (width, out),
        "visual.conv1.weight": (width, 3, patch, patch), "positional_embedding": (77, text), "text_projection": (text, out),
        "token_embedding.weight": (49408, text), "logit_scale": (),
    }  # fmt: skip
    for key, w in (("visual.ln_pre", width), ("visual.ln_post", width), ("ln_final", text)):
        shapes |= {key + ".weight": (w,), key + ".bias": (w,)}
    for prefix, w in (("visual.transformer", width), ("transformer", text)):
        for k in range(layers):
            block = f"{prefix}.resblocks.{k}"
            shapes |= {f"{block}.attn.in_proj_weight": (3 * w, w), f"{block}.attn.in_proj_bias": (3 * w,)}
            for part, o, i in (("attn.out_proj", w, w), ("mlp.c_fc", 4 * w, w), ("mlp.c_proj", w, 4 * w)):
                shapes |= {f"{block}.{part}.weight": (o, i), f"{block}.{part}.bias": (o,)}
            shapes |= {f"{block}.{ln}.{kind}": (w,) for ln in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    return shapes


def clip_tower(x: Tensor, s: dict[str, Tensor], prefix: str, heads: int, mask: Tensor | None) -> Tensor:
    for k in range(2):
        b = f"{prefix}.resblocks.{k}."
        y = norm(x, s, b + "ln_1", 1e-5) @ s[b + "attn.in_proj_weight"].T + s[b + "attn.in_proj_bias"]
        x = x + linear(attend(*y.chunk(3, -1), heads, mask), s, b + "attn.out_proj")
        x = x + linear(F.gelu(linear(norm(x, s, b + "ln_2", 1e-5), s, b + "mlp.c_fc")), s, b + "mlp.c_proj")
    return x


def hps_by_hand(s: dict[str, Tensor], pixels: Tensor, ids: Tensor, heads: int) -> Tensor:
    patches = F.conv2d(pixels, s["visual.conv1.weight"], stride=14).flatten(2).transpose(1, 2)
    x = torch.cat([s["visual.class_embedding"].expand(len(pixels), 1, -1), patches], 1) + s["visual.positional_embedding"]
    x = clip_tower(norm(x, s, "visual.ln_pre", 1e-5), s, "visual.transformer", heads, None)
    image = norm(x[:, 0], s, "visual.ln_post", 1e-5) @ s["visual.proj"]
    t = s["token_embedding.weight"][ids] + s["positional_embedding"][: ids.shape[1]]
    causal = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)
    t = norm(clip_tower(t, s, "transformer", heads, causal), s, "ln_final", 1e-5)
    text = t[torch.arange(len(ids)), ids.argmax(1)] @ s["text_projection"]
    return F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T


def reward_shapes(width: int = 16, text: int = 12, vocabulary: int = 40) -> dict[str, tuple[int, ...]]:
    v, t = "blip.visual_encoder.", "blip.text_encoder."
    pairs = {v + "patch_embed.proj": (width, 3, 16, 16), v + "norm": (width,), t + "embeddings.LayerNorm": (text,)}
    pairs |= {"blip.vision_proj": (4, width), "blip.text_proj": (4, text)}
    attn, mlp = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}, {"mlp.fc1": (32, width), "mlp.fc2": (width, 32)}
    for part, shape in (attn | mlp).items():
        pairs[f"{v}blocks.0.{part}"] = shape
    pairs |= {f"{v}blocks.0.norm{k}": (width,) for k in (1, 2)}
    layer = t + "encoder.layer.0."
    for part, source in (("attention", text), ("crossattention", width)):
        pairs |= {f"{layer}{part}.self.{x}": (text, source if x != "query" else text) for x in ("query", "key", "value")}
        pairs |= {f"{layer}{part}.output.dense": (text, text), f"{layer}{part}.output.LayerNorm": (text,)}
    pairs |= {layer + "intermediate.dense": (20, text), layer + "output.dense": (text, 20), layer + "output.LayerNorm": (text,)}
    sizes = (text, 1024, 128, 64, 16, 1)
    pairs |= {f"mlp.layers.{k}": (sizes[i + 1], sizes[i]) for i, k in enumerate((0, 2, 4, 6, 7))}
    shapes = {f"{key}.{kind}": (shape if kind == "weight" else shape[:1]) for key, shape in pairs.items() for kind in ("weight", "bias")}
    return shapes | {
        v + "cls_token": (1, 1, width), v + "pos_embed": (1, 10, width),
        t + "embeddings.word_embeddings.weight": (vocabulary, text), t + "embeddings.position_embeddings.weight": (50, text),
    }  # fmt: skip


def reward_by_hand(s: dict[str, Tensor], pixels: Tensor, ids: Tensor, mask: Tensor, vision_heads: int, text_heads: int) -> Tensor:
    v, b = "blip.visual_encoder.", "blip.visual_encoder.blocks.0."
    x = F.conv2d(pixels, s[v + "patch_embed.proj.weight"], s[v + "patch_embed.proj.bias"], stride=16).flatten(2).transpose(1, 2)
    x = torch.cat([s[v + "cls_token"].expand(len(x), -1, -1), x], 1) + s[v + "pos_embed"]
    y = linear(norm(x, s, b + "norm1", 1e-6), s, b + "attn.qkv")
    x = x + linear(attend(*y.chunk(3, -1), vision_heads), s, b + "attn.proj")
    x = x + linear(F.gelu(linear(norm(x, s, b + "norm2", 1e-6), s, b + "mlp.fc1")), s, b + "mlp.fc2")
    seen = norm(x, s, v + "norm", 1e-6)
    e, layer = "blip.text_encoder.embeddings.", "blip.text_encoder.encoder.layer.0."
    t = s[e + "word_embeddings.weight"][ids] + s[e + "position_embeddings.weight"][: ids.shape[1]]
    t = norm(t, s, e + "LayerNorm", 1e-12)
    hidden = torch.where(mask.bool(), 0.0, -10000.0)[:, None, None]
    for part, source, blocked in (("attention", None, hidden), ("crossattention", seen, None)):
        keys = t if source is None else source
        q, k, w = (linear(z, s, f"{layer}{part}.self.{n}") for z, n in ((t, "query"), (keys, "key"), (keys, "value")))
        out = linear(attend(q, k, w, text_heads, blocked), s, f"{layer}{part}.output.dense")
        t = norm(out + t, s, f"{layer}{part}.output.LayerNorm", 1e-12)
    out = linear(F.gelu(linear(t, s, layer + "intermediate.dense")), s, layer + "output.dense")
    t = norm(out + t, s, layer + "output.LayerNorm", 1e-12)[:, 0]
    for k in (0, 2, 4, 6, 7):
        t = linear(t, s, f"mlp.layers.{k}")
    return (t[:, 0] - imagereward.MEAN) / imagereward.STD


@pytest.fixture(scope="module")
def hps_state() -> dict[str, Tensor]:
    return random_like(hps_shapes(), 1)


@pytest.fixture(scope="module")
def hps_file(hps_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hps") / hps.FILES["v2.1"]
    torch.save({"state_dict": hps_state}, path)
    return path


@pytest.fixture(scope="module")
def reward_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("reward")
    state = random_like(reward_shapes(), 2)
    torch.save(state | {"blip.text_encoder.embeddings.position_ids": torch.arange(50)[None]}, folder / imagereward.FILE)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters[:5], *("##" + x for x in letters), "a", "&", ";"]
    (folder / "vocab.txt").write_text("\n".join(words[:38]) + "\n", encoding="utf-8")
    return folder / imagereward.FILE, folder / "vocab.txt"


def test_hps_equals_a_straight_computation(hps_file: Path, hps_state: dict[str, Tensor]) -> None:
    reward = HPSv2.from_pretrained(hps_file, vision_heads=2, text_heads=2)
    pixels = torch.stack([preprocess.letterbox(image, 56, True) for image in pictures()])
    ids = clip_text.token_ids(clip_text.openai_tokenizer(), [clip_text.clean(p) for p in PROMPTS], 77)
    expected = hps_by_hand(hps_state, pixels, ids, heads=2)
    assert np.abs(np.array(reward.matrix(pictures(), PROMPTS)) - expected.numpy()).max() < 1e-6
    assert np.abs(np.array(reward.score(pictures(), PROMPTS)) - expected.diagonal().numpy()).max() < 1e-6


def test_imagereward_equals_a_straight_computation(reward_files: tuple[Path, Path]) -> None:
    reward = ImageReward.from_pretrained(reward_files[0], tokenizer=reward_files[1], vision_heads=4, text_heads=3)
    state = torch.load(reward_files[0], weights_only=True)
    pixels = torch.stack([preprocess.centre_crop(image, 48) for image in pictures()])
    ids, mask = imagereward.token_ids(reward.tokenizer, PROMPTS)
    expected = reward_by_hand(state, pixels, ids, mask, vision_heads=4, text_heads=3)
    assert np.abs(np.array(reward.score(pictures(), PROMPTS)) - expected.numpy()).max() < 1e-5
    matrix = np.array(reward.matrix(pictures(), PROMPTS))
    assert np.abs(matrix.diagonal() - expected.numpy()).max() < 1e-5


# ---- contract


def test_scores_pair_one_to_one_and_do_not_depend_on_the_batch(hps_file: Path, reward_files: tuple[Path, Path]) -> None:
    for batch_size in (1, 2):
        one = HPSv2.from_pretrained(hps_file, vision_heads=2, text_heads=2, batch_size=batch_size)
        other = ImageReward.from_pretrained(reward_files[0], tokenizer=reward_files[1], vision_heads=4, text_heads=3, batch_size=batch_size)
        for reward, full in ((one, one.matrix(pictures(), PROMPTS)), (other, other.matrix(pictures(), PROMPTS))):
            assert np.allclose(reward.score(pictures(), PROMPTS), np.diagonal(full), atol=1e-5)
            assert reward.score([], []) == [] and reward.matrix(pictures(), []) == [[], [], []]
            with pytest.raises(InputError, match="3 images but 1 prompts"):
                reward.score(pictures(), PROMPTS[:1])
            with pytest.raises(InputError, match="one string"):
                reward.score(pictures(), "abc")
            with pytest.raises(InputError, match="RGBA"):
                reward.score([pictures()[0].convert("RGBA")], ["a"])


def test_texts_are_encoded_once_and_in_their_cleaned_form(hps_file: Path) -> None:
    reward = HPSv2.from_pretrained(hps_file, vision_heads=2, text_heads=2)
    features = reward.text_features(["a  Cat &amp;amp; dog", "a cat & dog", "bird"])
    assert torch.equal(features[0], features[1]) and len(reward.towers.known_texts) == 2


def test_a_folder_that_was_saved_gives_the_same_scores(hps_file: Path, reward_files: tuple[Path, Path], tmp_path: Path) -> None:
    first = HPSv2.from_pretrained(hps_file, vision_heads=2, text_heads=2)
    first.towers.model.half().save_pretrained(tmp_path / "hps")
    first.towers.tokenizer.save_pretrained(tmp_path / "hps")
    first.towers.model.float()
    again = HPSv2.from_pretrained(tmp_path / "hps")
    assert np.allclose(first.score(pictures(), PROMPTS), again.score(pictures(), PROMPTS), atol=1e-6)
    second = ImageReward.from_pretrained(reward_files[0], tokenizer=reward_files[1], vision_heads=4, text_heads=3)
    imagereward.save(tmp_path / "reward", second.model, second.tokenizer, second.standard)
    loaded = ImageReward.from_pretrained(tmp_path / "reward")
    assert np.allclose(second.score(pictures(), PROMPTS), loaded.score(pictures(), PROMPTS), atol=2e-2)  # float16 weights


def test_protocol_names_the_resize(hps_file: Path) -> None:
    modern, legacy = (HPSv2.from_pretrained(hps_file, vision_heads=2, text_heads=2, antialias=on) for on in (True, False))
    assert modern.protocol["resize_antialias"] == "torchvision>=0.17" and legacy.protocol["resize_antialias"] == "legacy"
    assert modern.score(pictures()[:1], PROMPTS[:1]) != legacy.score(pictures()[:1], PROMPTS[:1])


# ---- faults


def test_faulty_checkpoints_are_named(
    hps_file: Path, hps_state: dict[str, Tensor], reward_files: tuple[Path, Path], tmp_path: Path
) -> None:
    torch.save({key: value for key, value in hps_state.items() if key != "ln_final.bias"}, tmp_path / "short.pt")
    with pytest.raises(CheckpointError, match=r"missing text_model\.final_layer_norm\.bias"):
        HPSv2.from_pretrained(tmp_path / "short.pt", vision_heads=2, text_heads=2)
    with pytest.raises(CheckpointError, match=r"visual\.conv1\.weight is missing"):
        HPSv2.from_pretrained(reward_files[0])
    (tmp_path / "cut.pt").write_bytes(hps_file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        HPSv2.from_pretrained(tmp_path / "cut.pt")
    torch.save({"state_dict": print}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match="hold code"):
        ImageReward.from_pretrained(tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match=r"neither config\.json nor"):
        ImageReward.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="no hub id"):
        HPSv2.from_pretrained(tmp_path / "absent" / "file.pt")
    with pytest.raises(UnknownName, match=r"v2\.1"):
        HPSv2.from_pretrained(hps_file, version="v2.2")  # type: ignore[arg-type]


# ---- preprocessing and tokens


def test_letterbox_keeps_everything_and_crop_keeps_the_middle() -> None:
    image = PIL.Image.new("RGB", (60, 30), (255, 255, 255))
    black, white = preprocess.normalise(torch.zeros(3, 1, 1)), preprocess.normalise(torch.ones(3, 1, 1))
    boxed, cropped = preprocess.letterbox(image, 40, True), preprocess.centre_crop(image, 40)
    assert boxed.shape == cropped.shape == (3, 40, 40)
    assert torch.allclose(boxed[:, :10], black.expand(3, 10, 40)) and torch.allclose(boxed[:, 10:30], white.expand(3, 20, 40), atol=1e-5)
    assert torch.allclose(cropped, white.expand(3, 40, 40))
    same_longest = preprocess.letterbox(PIL.Image.new("RGB", (40, 37)), 40, True)  # the original code fails on this one
    assert same_longest.shape == (3, 40, 40)


def test_clip_tokens_are_the_originals() -> None:
    tokenizer = clip_text.openai_tokenizer()
    ids = clip_text.token_ids(tokenizer, ["a cat with two horns on its head", "a " * 100, "<|endoftext|> a"], 77)
    assert ids[0, :10].tolist() == [49406, 320, 2368, 593, 1237, 22109, 525, 902, 1375, 49407] and not ids[0, 10:].any()
    assert ids.shape == (3, 77) and ids[1, -1] == 49407 and ids[1, 1:-1].unique().tolist() == [320]
    assert (ids[2] == 49407).sum() == 1
    assert clip_text.clean(" The &lt;b&gt; ï¬\x81sh’s\n END ") == clip_text.clean("the <b> fish's end")


# ---- what the original code gave

GOLDEN = os.environ.get("REFINE_GOLDEN_REWARDS")
golden = pytest.mark.skipif(not GOLDEN, reason="set REFINE_GOLDEN_REWARDS to the folder with the original implementations' scores")


def golden_inputs() -> tuple[Path, dict[str, list[list[float]]], list[str], list[PIL.Image.Image]]:
    folder = Path(str(GOLDEN))
    expected = json.loads((folder / "expected.json").read_text())
    images = [PIL.Image.open(folder / "images" / f"{k}.png").convert("RGB") for k in range(7)]
    return folder, expected, expected["prompts"], images


@golden
def test_golden_hps() -> None:
    folder, expected, prompts, images = golden_inputs()
    reward = HPSv2.from_pretrained(folder / hps.FILES["v2.1"], vision_heads=2, text_heads=2)
    assert np.abs(np.array(reward.matrix(images, prompts)).T - expected["hps_scores"]).max() < 1e-6
    arrays = np.load(folder / "expected.npz")
    ids = clip_text.token_ids(reward.towers.tokenizer, [clip_text.clean(p) for p in prompts], 77)
    assert np.array_equal(ids, arrays["hps_tokens"][:, : ids.shape[1]])
    pixels = np.array([preprocess.letterbox(image, 224, True)[:, ::4, ::4].numpy() for image in images])
    assert np.abs(pixels - arrays["hps_pixels_0"]).max(axis=(1, 2, 3)).min() < 1e-5


@golden
def test_golden_imagereward() -> None:
    folder, expected, prompts, images = golden_inputs()
    reward = ImageReward.from_pretrained(folder / imagereward.FILE, tokenizer=folder / "vocab.txt", vision_heads=4)
    assert np.abs(np.array(reward.matrix(images, prompts)).T - expected["ir_scores"]).max() < 1e-5
    for prompt, row in zip(prompts, expected["ir_scores"], strict=True):
        assert np.abs(np.array(reward.score(images, [prompt] * 7)) - row).max() < 1e-5
    arrays = np.load(folder / "expected.npz")
    ids, mask = imagereward.token_ids(reward.tokenizer, prompts)
    assert np.array_equal(ids, arrays["ir_ids"][:, : ids.shape[1]]) and np.array_equal(mask, arrays["ir_mask"][:, : ids.shape[1]])
    pixels = np.array([preprocess.centre_crop(image, 224)[:, ::4, ::4].numpy() for image in images])
    assert np.abs(pixels - arrays["ir_pixels_0"]).max(axis=(1, 2, 3)).min() < 1e-5
