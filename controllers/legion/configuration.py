"""The sizes of a LEGION model: three sub-configurations of transformers, and what joins them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedConfig, SamConfig

IMAGE_PLACE = -200  # sentinel in ``input_ids`` where the image's patch tokens are spliced in
IGNORE = -100  # label of a position that is not supervised

Part: TypeAlias = Mapping[str, Any] | PreTrainedConfig | None


class LegionConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of ``LegionModel``.

    clip_config, llama_config, sam_config: the parts, or dicts of their fields. A SAM that is trained from nothing needs
        ``SamVisionConfig(initializer_range=0.02)``: the library's default of 1e-10 is a dead start.
    vision_layer: which CLIP hidden state is read (-2: before the last layer, no final norm).
    seg_token_id: the token whose predicting state prompts a mask.
    detector_hidden: width of the real/fake head on the CLIP class token; 0: no head (the paper's has 2048).
    """

    model_type = "legion"
    sub_configs: ClassVar[dict[str, Any]] = {"clip_config": CLIPVisionConfig, "llama_config": LlamaConfig, "sam_config": SamConfig}

    def __init__(
        self,
        clip_config: Part = None,
        llama_config: Part = None,
        sam_config: Part = None,
        vision_layer: int = -2,
        seg_token_id: int = 32004,
        detector_hidden: int = 0,
        initializer_range: float = 0.02,
        **others: Any,
    ) -> None:
        self.clip_config: Any = _part(CLIPVisionConfig, clip_config)
        self.llama_config: Any = _part(LlamaConfig, llama_config)
        self.sam_config: Any = _part(SamConfig, sam_config)
        self.vision_layer, self.seg_token_id, self.detector_hidden = vision_layer, seg_token_id, detector_hidden
        self.initializer_range = initializer_range
        super().__init__(**others)


def _part(kind: Any, given: Part) -> Any:
    return kind(**given) if isinstance(given, Mapping) else given or kind()
