"""A chat model of transformers on this machine: text only, or one that looks at an image."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from jinja2 import TemplateError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from refine.errors import ConfigError, InputError, loading
from refine.types import Question

Precision = Literal["float32", "bfloat16", "float16"]


class LocalChat:
    """A ``Chat``. Answers are greedy and end after ``max_tokens``; questions are padded on the left and answered ``batch_size`` at a time.

    processor: a tokenizer for a text model, a processor for one that sees; either brings the chat template. Raises ConfigError without one.
    """

    def __init__(self, model: Any, processor: Any, *, max_tokens: int = 512, batch_size: int = 4) -> None:
        for name, value in (("max_tokens", max_tokens), ("batch_size", batch_size)):
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1.")
        self.model, self.processor = model.eval(), processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.sees = self.tokenizer is not processor
        if not (getattr(processor, "chat_template", None) or self.tokenizer.chat_template):
            raise ConfigError("The model has no chat template: it is no chat model. Name its instruction-tuned form (often ...-Instruct).")
        if self.tokenizer.pad_token_id is None:  # LLaMA's have none; what is padded is masked
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.batch_size = batch_size
        stored = model.generation_config
        pad = self.tokenizer.pad_token_id
        end = stored.eos_token_id if stored.eos_token_id is not None else self.tokenizer.eos_token_id
        self._takes = set(inspect.signature(model.forward).parameters)  # a tokenizer may add what a model does not take (token types)
        self._how = GenerationConfig(max_new_tokens=max_tokens, do_sample=False, eos_token_id=end, pad_token_id=pad)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, device: str | None = None, dtype: Precision | None = None, max_tokens: int = 512, batch_size: int = 4
    ) -> LocalChat:
        """Load a folder or a hub name. dtype None: bfloat16 on an accelerator, float32 elsewhere. Raises CheckpointError."""
        where = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
        kind = torch.float32 if where.type == "cpu" else torch.bfloat16
        with loading(f"a chat model from {str(source)!r}"):
            config = AutoConfig.from_pretrained(source)
            sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
            processor = load_processor(source, config) if sees else AutoTokenizer.from_pretrained(source)
            auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
            model = auto.from_pretrained(source, dtype=dtype or kind).to(where)
        return cls(model, processor, max_tokens=max_tokens, batch_size=batch_size)

    def ask(self, questions: Sequence[Question]) -> list[str]:
        """One answer each, without the special tokens. Raises InputError for an image where the model is blind."""
        if not self.sees and any(question.image is not None for question in questions):
            raise InputError("This chat model reads text only; an image needs one that sees, such as Qwen2.5-VL.")
        answers: dict[int, str] = {}
        for seeing in (False, True):  # a batch has images throughout, or none
            asked = [index for index, question in enumerate(questions) if (question.image is not None) == seeing]
            for start in range(0, len(asked), self.batch_size):
                part = asked[start : start + self.batch_size]
                answers |= zip(part, self._answer([questions[index] for index in part]), strict=True)
        return [answers[index] for index in range(len(questions))]

    @torch.inference_mode()
    def _answer(self, questions: Sequence[Question]) -> list[str]:
        texts = [self._prompt(question) for question in questions]
        images = [[question.image.convert("RGB")] for question in questions if question.image is not None]
        self.tokenizer.padding_side = "left"
        seen: dict[str, Any] = {"images": images} if images else {}
        # The template has written the special tokens already.
        inputs = self.processor(text=texts, padding=True, return_tensors="pt", add_special_tokens=False, **seen)
        inputs = inputs.to(self.model.device, dtype=self.model.dtype) if images else inputs.to(self.model.device)
        ids = self.model.generate(**{name: value for name, value in inputs.items() if name in self._takes}, generation_config=self._how)
        said = ids[:, inputs["input_ids"].shape[1] :]
        return cast("list[str]", self.tokenizer.batch_decode(said, skip_special_tokens=True))

    def _prompt(self, question: Question) -> str:
        """The conversation in the model's own template. Where that knows no system turn (Gemma 2), its words go before the question."""
        # A short answer is wanted; templates of models that can think aloud first (Qwen3) read this, others ignore it.
        settings = {} if self.sees else {"enable_thinking": False}
        try:
            turns = _turns(question, self.sees)
            text = self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, **settings)
        except TemplateError:
            merged = replace(question, text=f"{question.system}\n\n{question.text}", system="")
            turns = _turns(merged, self.sees)
            text = self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, **settings)
        return cast(str, text)


def load_processor(source: str | Path, config: Any) -> Any:
    """The model's processor; where that needs torchvision for video, one for images alone."""
    try:
        return AutoProcessor.from_pretrained(source)
    except ImportError:
        if type(config) not in PROCESSOR_MAPPING:
            raise
    image_processor, tokenizer = AutoImageProcessor.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    return images_only(PROCESSOR_MAPPING[type(config)], image_processor, tokenizer)


def images_only(processor: Any, image_processor: Any, tokenizer: Any) -> Any:
    """A processor of a class that insists on a video processor (Qwen-VL does), without one."""
    class_ = type(processor.__name__, (processor,), {"check_argument_for_proper_class": lambda self, name, part: type(part)})
    return class_(image_processor=image_processor, tokenizer=tokenizer, video_processor=None, chat_template=tokenizer.chat_template)


def _turns(question: Question, sees: bool) -> list[dict[str, Any]]:
    """The conversation as a chat template takes it: lists of parts for a model that sees, plain text for one that reads."""

    def content(text: str, image: bool = False) -> Any:
        return [*([{"type": "image"}] if image else []), {"type": "text", "text": text}] if sees else text

    system = [{"role": "system", "content": content(question.system)}] if question.system else []
    return [*system, {"role": "user", "content": content(question.text, question.image is not None)}]
