"""The sizes of a LEGION model: three sub-configurations of transformers, and what joins them."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedConfig, SamConfig

IMAGE_PLACE = -200  # sentinel in ``input_ids`` where the image's patch tokens are spliced in
IGNORE = -100  # label of a position that is not supervised


class LegionConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of ``LegionModel``.

    clip_config, llama_config, sam_config: the parts. A SAM that is trained from nothing needs
        ``SamVisionConfig(initializer_range=0.02)``: the library's default of 1e-10 is a dead start.
    vision_layer: which CLIP hidden state is read (-2: before the last layer, no final norm).
    seg_token_id: the token whose predicting state prompts a mask.
    detector_hidden: width of the real/fake head on the CLIP class token; 0: no head (the paper's has 2048).
    """

    model_type = "legion"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "clip_config": CLIPVisionConfig,
        "llama_config": LlamaConfig,
        "sam_config": SamConfig,
    }

    clip_config: Any = None  # given as the part's configuration or as a dict of its fields; always the former afterwards
    llama_config: Any = None
    sam_config: Any = None
    vision_layer: int = -2
    seg_token_id: int = 32004
    detector_hidden: int = 0
    initializer_range: float = 0.02
