"""Losses of the small reward models: the papers' preference losses, and dense supervision that random weights need.

Nothing here is pre-trained, so the towers learn to see and to read from labels that still life gives for free: what each patch
shows, which scene a feature describes, which words contradict the picture. The heads for that are dropped after training.
Axes as in ``reward_data``: B groups, V = 4 views (clean, mild, severe, twin), P patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertTokenizer, CLIPModel, CLIPTokenizer

from refine.evals import clip_text, imagereward
from refine.evals.imagereward import ImageRewardModel
from refine.evals.reward_data import SCENE_CLASSES, SOLID_CLASSES, Batch
from refine.evals.reward_models import TEXT_LENGTH

CLEAN, MILD, SEVERE, TWIN = range(4)
PREFERENCES = ("damage", "caption", "contrast")  # the terms that a run starts without
MAX_CHANGED_WORDS = 10  # more differing words: the two captions are different paraphrases
FAULT_WEIGHT, WORD_WEIGHT = 4.0, 4.0  # of the rare positive class


class Teacher(nn.Module):
    """The auxiliary heads. Widths: of vision tokens, of the feature that should tell the scene, of text states (0: none of those heads)."""

    def __init__(self, vision: int, scene: int, text: int = 0) -> None:
        super().__init__()
        self.patch = nn.Linear(vision, sum(SOLID_CLASSES) + 1)
        self.scene = nn.Linear(scene, sum(SCENE_CLASSES))
        if text:
            self.word = nn.Linear(text, 1)
            self.seen = nn.Linear(text, sum(SCENE_CLASSES))
            self.differs = nn.Linear(text, len(SCENE_CLASSES))

    def patches(self, tokens: Tensor, batch: Batch) -> Tensor:
        """Loss of (B·V, 4P, width) tokens, four to a patch: the solid's four attributes, and the damaged share."""
        side = round(tokens.shape[1] ** 0.5)
        grid = tokens.float().transpose(1, 2).unflatten(2, (side, side))
        logits = self.patch(F.avg_pool2d(grid, 2).flatten(2).transpose(1, 2))
        shown = classes_loss(logits[..., :-1], batch.solids.flatten(0, 1), SOLID_CLASSES)
        weight = logits.new_tensor(FAULT_WEIGHT)
        return shown + F.binary_cross_entropy_with_logits(logits[..., -1], batch.fault.flatten(0, 1), pos_weight=weight)

    def scenes(self, features: Tensor, labels: Tensor) -> Tensor:
        """Loss of (..., width) features that should tell the whole scene; labels (..., 14)."""
        return classes_loss(self.scene(features.float()), labels, SCENE_CLASSES)

    def compares(self, states: Tensor, image: Tensor, text: Tensor) -> Tensor:
        """Loss of (..., width) states of [CLS] that should tell what is seen, and in which classes picture and text differ.

        image, text: (..., 14) class numbers of what the picture shows and of what the text says.
        """
        differ = F.binary_cross_entropy_with_logits(self.differs(states.float()), (image != text).float())
        return classes_loss(self.seen(states.float()), image, SCENE_CLASSES) + differ


def classes_loss(logits: Tensor, labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Mean cross entropy over several classifications that lie side by side in the last axis."""
    several = zip(torch.split(logits, list(classes), -1), labels.unbind(-1), strict=True)
    return torch.stack([F.cross_entropy(part.flatten(0, -2), label.flatten()) for part, label in several]).mean()


def prefer(better: Tensor, worse: Tensor) -> Tensor:
    """-log sigmoid(better - worse), the Bradley-Terry loss; equal to the cross entropy of a softmax over the two."""
    return F.softplus(worse - better).mean()


def ranked(scores: Tensor) -> Tensor:
    """Preference losses of (B, 3) scores of clean, mild and severe."""
    clean, mild, severe = scores.unbind(1)
    return (prefer(clean, mild) + prefer(clean, severe) + prefer(mild, severe)) / 3


def crossed(right: Tensor, wrong: Tensor) -> Tensor:
    """(B, 2) scores of clean and twin for both captions: each picture prefers its caption, each caption its picture."""
    texts = prefer(right[:, 0], wrong[:, 0]) + prefer(wrong[:, 1], right[:, 1])
    return (texts + prefer(right[:, 0], right[:, 1]) + prefer(wrong[:, 1], wrong[:, 0])) / 4


def hps_losses(model: CLIPModel, teacher: Teacher, tokenizer: CLIPTokenizer, batch: Batch) -> dict[str, Tensor]:
    """HPSv2 (arXiv 2306.09341, eq. 1-2): softmax over exp(logit_scale) × similarity. With CLIP's contrast of the batch."""
    groups, views = batch.pixels.shape[:2]
    seen = model.vision_model(pixel_values=batch.pixels.flatten(0, 1))
    ids = clip_text.token_ids(tokenizer, [clip_text.clean(text) for text in (*batch.right, *batch.wrong, *batch.read)], TEXT_LENGTH)
    read = model.text_model(input_ids=ids)
    with torch.autocast("cpu", enabled=False):
        image = model.visual_projection(seen.pooler_output.float()).view(groups, views, -1)
        texts = model.text_projection(read.pooler_output.float())
        text = texts[: 2 * groups].view(2, groups, -1)
        labels = torch.stack([batch.scenes[:, 0], batch.scenes[:, 0], batch.scenes[:, 0], batch.scenes[:, 1]], 1)
        said = torch.cat([batch.scenes.transpose(0, 1).flatten(0, 1), batch.told])
        scale = model.logit_scale.clamp(max=4.6052).exp()
        v, t = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
        right, wrong = (scale * torch.einsum("bvd,bd->bv", v, side) for side in t)
        ends = [CLEAN, TWIN]
        return {
            "damage": ranked(right[:, :TWIN]),
            "caption": crossed(right[:, ends], wrong[:, ends]),
            "contrast": contrast(scale * v[:, ends].transpose(0, 1).flatten(0, 1) @ t.flatten(0, 1).T),
            "scene": teacher.scenes(image, labels),
            "text": teacher.scenes(texts, said),
            "patch": teacher.patches(seen.last_hidden_state[:, 1:], batch),
        }


def contrast(logits: Tensor) -> Tensor:
    """CLIP's symmetric cross entropy of (N, N) logits whose diagonal is right."""
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def imagereward_losses(model: ImageRewardModel, teacher: Teacher, tokenizer: BertTokenizer, batch: Batch) -> dict[str, Tensor]:
    """ImageReward (arXiv 2304.05977, eq. 1): -log sigmoid of the score difference."""
    groups, views = batch.pixels.shape[:2]
    tokens = model.see(batch.pixels.flatten(0, 1))
    v = tokens.view(groups, views, *tokens.shape[1:])
    ids, mask = imagereward.token_ids(tokenizer, (*batch.right, *batch.wrong), TEXT_LENGTH)
    (right, wrong), (right_mask, wrong_mask) = ids.chunk(2), mask.chunk(2)
    shown = [v[:, k] for k in (CLEAN, CLEAN, TWIN, TWIN, CLEAN, MILD, SEVERE)]
    texts = [right, wrong, right, wrong, right.roll(1, 0), right, right]
    masks = [right_mask, wrong_mask, right_mask, wrong_mask, right_mask.roll(1, 0), right_mask, right_mask]
    states = model.read(torch.cat(shown), torch.cat(texts), torch.cat(masks))
    s = model.judge(states).view(7, groups).T
    states = states.view(7, groups, *states.shape[1:]).float()
    scene, twin = batch.scenes.unbind(1)
    seen, said = torch.stack([scene, scene, twin, twin, scene]), torch.stack([scene, twin, scene, twin, scene.roll(1, 0)])
    return {
        "damage": ranked(s[:, [0, 5, 6]]),
        "caption": crossed(s[:, [0, 2]], s[:, [1, 3]]) + prefer(s[:, 0], s[:, 4]) / 4,
        "word": word_loss(teacher.word(states[:4]).squeeze(-1), right, wrong, right_mask),
        "compare": teacher.compares(states[:5, :, 0], seen, said),
        "scene": teacher.scenes(v[:, [CLEAN, TWIN], 0], batch.scenes),
        "patch": teacher.patches(tokens[:, 1:], batch),
    }


def word_loss(logits: Tensor, right: Tensor, wrong: Tensor, mask: Tensor) -> Tensor:
    """Which words contradict the picture: (4, B, L) logits of (clean, right), (clean, wrong), (twin, right), (twin, wrong).

    Words that differ between the two captions contradict in the crossed pairs, nothing does in the matching ones. Counts only
    where the captions are the same paraphrase.
    """
    differs = right != wrong
    same_form = (differs.sum(1, keepdim=True) <= MAX_CHANGED_WORDS) & mask.bool()
    nothing = torch.zeros_like(differs)
    target = torch.stack([nothing, differs, differs, nothing]).float()
    loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=logits.new_tensor(WORD_WEIGHT), reduction="none")
    return (loss * same_form).sum() / (4 * same_form.sum()).clamp(min=1)
