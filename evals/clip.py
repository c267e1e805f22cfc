"""Everything that is scored with a CLIP goes through here: weights in either layout, and features that are computed once.

HPSv2, PickScore, CLIPScore and the aesthetic predictor differ in how they see an image, how they read a prompt, and what they make
of the two unit vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer

from refine.errors import CheckpointError
from refine.evals.batching import FeatureCache, content
from refine.evals.checkpoints import download, local, precision, read_state, reading, require_match
from refine.evals.clip_state import clip_from_state
from refine.evals.clip_text import OPENAI_SIZE, openai_tokenizer, token_ids
from refine.evals.hub import explain
from refine.evals.preprocess import square_side
from refine.types import Image

TEXTS, IMAGES = 4096, 256  # rows remembered: some 4 kB each

See = Callable[[Image, int], Tensor]
Read = Callable[[str], str]


class Towers:
    """A ``CLIPModel`` and its tokenizer as two functions, from images and from prompts to unit vectors.

    ``see`` makes an image (3, side, side) normalised pixels; ``read`` makes a prompt the text that ``tokenizer`` is given. A prompt that
    was read and an image that was seen (recognised by its pixels) are not encoded again, as long as they are among the last hundreds.
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: CLIPTokenizer,
        see: See,
        read: Read,
        *,
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
    ) -> None:
        nn.Module.to(model, device=device, dtype=precision(dtype))
        self.model = model.train(False).requires_grad_(False)
        self.tokenizer, self.see, self.read = tokenizer, see, read
        self.side = square_side(model.vision_model.config)
        # Prompts are encoded one by one: a score must not depend on which other prompts happened to share a batch.
        self.known_texts: FeatureCache[str] = FeatureCache(self._encode_texts, lambda text: text, 1, TEXTS)
        self.known_images: FeatureCache[Image] = FeatureCache(self._encode_images, content, batch_size, IMAGES)

    def images(self, images: Sequence[Image]) -> Tensor:
        """(B, D) float32 of length 1."""
        return self.known_images(images)

    def texts(self, prompts: Sequence[str]) -> Tensor:
        """(B, D) float32 of length 1."""
        return self.known_texts([self.read(prompt) for prompt in prompts])

    @property
    def dtype(self) -> str:
        """The precision of the towers; what follows them is float32."""
        return str(self.model.dtype).removeprefix("torch.")

    @torch.inference_mode()
    def _encode_images(self, images: Sequence[Image]) -> Tensor:
        pixels = torch.stack([self.see(image, self.side) for image in images])
        return embed_images(self.model, pixels.to(self.model.device, self.model.dtype))

    @torch.inference_mode()
    def _encode_texts(self, texts: Sequence[str]) -> Tensor:
        length = self.model.text_model.config.max_position_embeddings
        return embed_texts(self.model, token_ids(self.tokenizer, texts, length).to(self.model.device))


def embed_images(model: CLIPModel, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) normalised pixels to (B, D) float32 unit vectors."""
    features: Tensor = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    return F.normalize(features.float(), dim=-1)


def embed_texts(model: CLIPModel, ids: Tensor) -> Tensor:
    """(B, n) token ids to (B, D) float32 unit vectors."""
    features: Tensor = model.text_projection(model.text_model(input_ids=ids).pooler_output)
    return F.normalize(features.float(), dim=-1)


def load_clip(
    source: str | Path,
    what: str,
    *,
    filename: str | None = None,
    act: Literal["gelu", "quick_gelu"] | None = None,
    vision_heads: int = 16,
    text_heads: int = 16,
    local_files_only: bool = False,
) -> tuple[CLIPModel, CLIPTokenizer]:
    """A float32 ``CLIPModel`` and its tokenizer.

    ``source`` is a file in the open_clip layout, a folder or hub repository that holds ``filename`` in that layout, or a folder, hub
    repository or embedded model in the layout of transformers. ``what`` names the model in messages. ``act``: the activation that it
    was trained with; a conversion that says otherwise would give wrong scores without a word. Raises CheckpointError.
    """
    path = local(source)
    file = path if path.is_file() else path / filename if filename and (path / filename).is_file() else None
    if file is None and not path.exists() and filename:
        file = _download_or_none(str(source), filename, local_files_only)
    if file is not None:
        return clip_from_state(read_state(file), vision_heads, text_heads, what), openai_tokenizer()
    if path.exists() and not (path / "config.json").is_file():
        either = f"neither config.json nor {filename}" if filename else "no config.json"
        raise CheckpointError(f"{path} holds {either}. Give a checkpoint file or a folder with one of the two.")
    return _from_transformers(str(path) if path.exists() else str(source), what, act, local_files_only or path.exists())


def _download_or_none(repo: str, filename: str, local_files_only: bool) -> Path | None:
    """None where the repository exists and has no such file: it may hold the other layout."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return download(repo, filename, local_files_only=local_files_only)
    except CheckpointError as error:
        if isinstance(error.__cause__, EntryNotFoundError) and not isinstance(error.__cause__, LocalEntryNotFoundError):
            return None
        raise


def _from_transformers(source: str, what: str, act: str | None, local_files_only: bool) -> tuple[CLIPModel, CLIPTokenizer]:
    kind = Path(source).is_dir()
    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": local_files_only, "output_loading_info": True}
    with reading(source):
        try:
            model, notes = CLIPModel.from_pretrained(source, **options)
        except OSError as error:
            if kind:
                raise
            raise CheckpointError(explain(source, "config.json and weights", error)) from error
    mismatched = {key for key, *_ in notes["mismatched_keys"]}
    require_match(what, set(notes["missing_keys"]), set(notes["unexpected_keys"]), mismatched)
    for tower in (model.config.vision_config, model.config.text_config):
        if act and tower.hidden_act != act:
            raise CheckpointError(f"{source} says hidden_act {tower.hidden_act!r}, but {what} has {act!r}. Correct its config.json.")
    return model, _tokenizer(source, model.config.text_config.vocab_size, local_files_only)


def _tokenizer(source: str, size: int, local_files_only: bool) -> CLIPTokenizer:
    """CLIP's own vocabulary ships with the package; another one is read beside the weights."""
    if size == OPENAI_SIZE:
        return openai_tokenizer()
    with reading(f"the tokenizer of {source}"):
        words: CLIPTokenizer = CLIPTokenizer.from_pretrained(source, local_files_only=local_files_only)
    if len(words) != size:  # without its files it comes up empty, and says nothing
        raise CheckpointError(f"{source} has a text tower of {size} tokens and a tokenizer of {len(words)}. Put its tokenizer files there.")
    return words
