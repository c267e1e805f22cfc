"""A chat model behind a server that speaks OpenAI's chat completions (vLLM, llama.cpp, Ollama, LM Studio, the hosted ones).

The key is read from the environment variable that the configuration names, at the moment of the call. It is no field of anything, follows
no redirect, and is blotted out of whatever the server says before that reaches a message.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from refine.errors import AnswerError, ConfigError
from refine.types import Image, Question

LARGEST = 4 * 2**20  # bytes of an answer; the longest real ones are some ten thousand
LONGEST_WAIT = 60.0  # seconds between two tries, whatever the server asks for
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A ``Chat`` over HTTP.

    url: the address up to ``/v1``. model: as the server calls it. key_env: the environment variable that holds the key (None: no key is
    sent). timeout: seconds that the server may be silent, and that an answer that has begun may take to arrive. retries: after a broken
    connection, a timeout or a busy server (408, 425, 429, 5xx), with random pauses that double from ``pause`` seconds on; Retry-After is
    obeyed up to a minute. parallel: questions on their way at once. extra: fields added to every request; null takes a field away, for
    servers that refuse it.

    Raises ConfigError for an address or a variable that cannot be used.
    """

    url: str
    model: str
    key_env: str | None = None
    max_tokens: int = 1024
    connect_timeout: float = 5.0
    timeout: float = 120.0
    retries: int = 4
    pause: float = 1.0
    parallel: int = 4
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = list(_faults(self.url))
        numbers = {"max_tokens": 1, "connect_timeout": 0, "timeout": 0, "retries": 0, "pause": 0, "parallel": 1}
        faults += [f"{k} is {v}; it must be {low} or more." for k, low in numbers.items() if (v := getattr(self, k)) < low]
        if faults:
            raise ConfigError(faults)
        self._key()

    def ask(self, questions: Sequence[Question]) -> list[str]:
        """One answer each; a few questions are on their way at once. Raises AnswerError and ConfigError."""
        limits = httpx2.Timeout(self.timeout, connect=self.connect_timeout)
        with httpx2.Client(timeout=limits, follow_redirects=False) as client, ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(lambda question: self._answer(client, question), questions))

    def _answer(self, client: httpx2.Client, question: Question) -> str:
        body = {"model": self.model, "messages": messages(question), "max_tokens": self.max_tokens, "temperature": 0} | dict(self.extra)
        request = {name: value for name, value in body.items() if value is not None}
        tried = 1
        while not isinstance(reply := self._exchange(client, request), str):
            if not reply.again or reply.wait > LONGEST_WAIT or tried > self.retries:
                tries = f" (tried {tried} times)" if tried > 1 else ""
                raise AnswerError(f"{self._place()} {reply.reason}{tries}. {reply.advice}".rstrip())
            pause = self.pause * 2 ** (tried - 1) * random.uniform(0.5, 1.0)  # jitter: many askers must not come back together
            time.sleep(min(max(reply.wait, pause), LONGEST_WAIT))
            tried += 1
        return reply

    def _exchange(self, client: httpx2.Client, request: Mapping[str, Any]) -> str | Failure:
        """One request: the answer's text, or why there is none."""
        key = self._key()
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
        try:
            with client.stream("POST", f"{_base(self.url)}/chat/completions", json=request, headers=headers) as response:
                status, told = response.status_code, dict(response.headers)
                text = self._read(response)
        except httpx2.TimeoutException:
            return Failure(f"did not answer within {self.timeout:g} s", again=True, advice="Raise timeout, or lower parallel.")
        except httpx2.TransportError as error:
            why = _clean(str(error) or type(error).__name__, key)
            return Failure(f"cannot be reached: {why}", again=True, advice="Is the server running, and is url right?")
        if isinstance(text, Failure):
            return text
        return _content(text, key) if status == 200 else _refusal(status, told, text, key)

    def _read(self, response: httpx2.Response) -> str | Failure:
        """The body, as long as it is neither endless nor endlessly slow."""
        began = time.monotonic()
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > LARGEST:
                return Failure(f"answers with more than {LARGEST // 2**20} MiB", advice="Is url that of a chat model?")
            if time.monotonic() - began > self.timeout:
                return Failure(f"did not finish within {self.timeout:g} s", again=True, advice="Raise timeout, or lower max_tokens.")
        return body.decode("utf-8", "replace")

    def _key(self) -> str:
        """The key, fit for a header. No message shows it."""
        if self.key_env is None:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise ConfigError(f"The environment variable {self.key_env!r} (key_env) holds no key. Set it, or leave key_env out.")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(f"The environment variable {self.key_env!r} (key_env) holds characters that no key has. Set it again.")
        return key

    def _place(self) -> str:
        return f"The model server at {urlsplit(self.url).netloc} ({self.model})"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer; ``again``: whether another try may help, after at least ``wait`` seconds."""

    reason: str
    again: bool = False
    wait: float = 0.0
    advice: str = ""


def messages(question: Question) -> list[dict[str, Any]]:
    """A question in the shape of the protocol; the image is a PNG, since JPEG would bring artifacts of its own."""
    content: Any = question.text
    if question.image is not None:
        content = [{"type": "image_url", "image_url": {"url": data_url(question.image)}}, {"type": "text", "text": question.text}]
    system = [{"role": "system", "content": question.system}] if question.system else []
    return [*system, {"role": "user", "content": content}]


def data_url(image: Image) -> str:
    """A picture as a ``data:`` address."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _content(text: str, key: str) -> str | Failure:
    """The words of a completion."""
    try:
        answer = json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return Failure(f"answers with something that is no chat completion: {_clean(text, key)!r}", advice="Should url end in /v1?")
    if not isinstance(answer, str) or not answer.strip():
        return Failure("gives an empty answer", advice="Does the model take such a question? Is max_tokens large enough?")
    return _blotted(answer, key)


def _refusal(status: int, headers: Mapping[str, str], text: str, key: str) -> Failure:
    if 300 <= status < 400:
        return Failure(f"sends us elsewhere (HTTP {status})", advice="A key follows no redirect: write the final address as url.")
    advice = {401: "Check the key.", 403: "Check the key.", 404: "Check url (it ends in /v1) and model."}.get(status, "")
    wait = _retry_after(headers.get("retry-after", ""))
    if wait > LONGEST_WAIT:
        advice = f"It asks to wait {wait:.0f} s: come back later; finished images are kept."
    return Failure(f"refuses (HTTP {status}): {_clean(text, key)!r}", status in BUSY, wait, advice)


def _retry_after(value: str) -> float:
    """Seconds to wait, from seconds or a date (RFC 9110, 10.2.3); 0 where it is neither."""
    try:
        return max(0.0, float(value)) if value.strip()[:1].isdigit() else max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _clean(text: str, key: str, longest: int = 200) -> str:
    """Text of the server, fit for a message: without the key, on one line, short."""
    line = " ".join(_blotted(text, key).split())
    return line if len(line) <= longest else f"{line[:longest]}…"


def _blotted(text: str, key: str) -> str:
    """The text without the key, as it is or as JSON may write it."""
    return text.replace(key, "[key]").replace(key.replace("/", "\\/"), "[key]") if key else text


def _base(url: str) -> str:
    return url.rstrip("/").removesuffix("/chat/completions")


def _faults(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return [f"url is {url!r}; it must be the server's address up to /v1, for example http://localhost:8000/v1."]
    if parts.username or parts.password or parts.query or parts.fragment:
        return ["url holds a name, a password or a query, which would be stored with every run. Put the key into an environment variable "
                "and name that in key_env."]  # fmt: skip
    return []
