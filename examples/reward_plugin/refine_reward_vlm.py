"""A vision-language model behind an OpenAI-compatible server as a reward of refine.

The score is VQAScore's (Lin et al. 2024, arXiv 2404.01291): P("yes") against P("no") for the question whether the picture shows the text.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from refine.errors import ConfigError, InputError, RefineError
from refine.types import Image


class VlmJudge:
    """A ``Reward`` in [0, 1], higher is better.

    url: the server's address up to ``/v1``. model: as the server calls it. question: must hold ``{text}``, where the prompt goes.
    key_env: the environment variable with the server's key (None: it needs none). timeout: seconds for one answer.

    An answer that is neither yes nor no is scored NaN: refine's gate then keeps the old picture. Raises RefineError where the server
    cannot be asked or gives no probabilities.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str = "http://localhost:8000/v1",
        question: str = 'Does this picture show "{text}"? Answer yes or no.',
        name: str = "vlm",
        key_env: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        if "{text}" not in question:
            raise ConfigError(f"rewards.{name}.question is {question!r}; it must hold {{text}}, where the prompt goes.")
        if key_env and key_env not in os.environ:
            raise ConfigError(f"rewards.{name}.key_env is {key_env!r}, but there is no such environment variable. Set it to the key.")
        self.name, self._model, self._url, self._timeout = name, model, url.rstrip("/"), timeout
        self._question, self._key_env = question, key_env

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        """One score for each (image, prompt) pair."""
        if len(images) != len(prompts):
            raise InputError(f"{len(images)} images but {len(prompts)} prompts; there must be one prompt per image.")
        return [probability_of_yes(self._ask(image, prompt)) for image, prompt in zip(images, prompts, strict=True)]

    def _ask(self, image: Image, prompt: str) -> dict[str, float]:
        """The log probabilities of the likeliest first tokens of the answer."""
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_png(image)}"}}
        text = {"type": "text", "text": self._question.replace("{text}", prompt)}
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": [picture, text]}],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 20,
        }
        answer = self._post(body)
        try:
            found = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            return {one["token"]: float(one["logprob"]) for one in found}
        except (KeyError, IndexError, TypeError, ValueError):
            raise RefineError(f"{self._url} gives no log probabilities. Serve {self._model} with them (vLLM does).") from None

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._key_env:
            headers["Authorization"] = f"Bearer {os.environ[self._key_env]}"
        request = urllib.request.Request(f"{self._url}/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            error.close()
            raise RefineError(f"{self._url} answered {error.code} for the model {self._model!r}. Check model, url and key_env.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise RefineError(f"Cannot ask {self._url} ({reason}). Start the server, or set rewards.{self.name}.url.") from None


def probability_of_yes(logprobs: dict[str, float]) -> float:
    """P(yes) / (P(yes) + P(no)) over all spellings of the two; not a number where neither is among the tokens."""
    shares = {"yes": 0.0, "no": 0.0}
    for token, logprob in logprobs.items():
        word = token.strip(" \u2581\u0120\n.,!").lower()
        if word in shares:
            shares[word] += math.exp(logprob)
    total = sum(shares.values())
    return shares["yes"] / total if total else math.nan


def _png(image: Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
