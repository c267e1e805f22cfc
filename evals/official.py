"""The authors' own packages as rewards, in an environment of their own.

``hpsv2`` and ``image-reward`` cannot be installed beside today's diffusers, so they run as a subprocess of another interpreter
(:mod:`refine.evals.official_worker` is its side) that is sent PNG images and prompts and answers with scores. Torch-free.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from refine.errors import CheckpointError, ConfigError, RefineError
from refine.evals.checks import check_pairs
from refine.evals.hub import redact
from refine.types import Image

VARIABLE = "REFINE_OFFICIAL_PYTHON"
WORKER = Path(__file__).with_name("official_worker.py")
TAIL = 3  # lines of the worker's own messages that an error shows

# What was installed and run together, with Python 3.11. ``hpsv2x`` is ``hpsv2`` 1.2.0 with the vocabulary file that its wheel lacks.
TORCH = "torch==2.14.1 torchvision==0.29.1"
TOOLS = "setuptools==80.9.0 wheel"
PACKAGES: Mapping[str, str] = {
    "hps": "hpsv2x==1.2.0 transformers==4.54.1",
    "imagereward": "image-reward==1.5 transformers==4.54.1 openai-clip==1.0.1",
}


def official_environment(reward: str) -> str:
    """The shell lines that make an interpreter with the authors' package of a reward (``hps`` or ``imagereward``). Both packages fit into
    one environment. Pure text: nothing is run, and this module imports no torch, so that any command can show it."""
    pip = "official-env/bin/python -m pip install"
    return "\n".join(
        [
            "python3.11 -m venv official-env",
            f"{pip} {TORCH}",
            f"{pip} {TOOLS}",
            f"{pip} --no-build-isolation {TORCH} {TOOLS} {PACKAGES[reward]}",
            f"export {VARIABLE}=$PWD/official-env/bin/python",
        ]
    )


class Official:
    """A ``Reward`` that another interpreter computes. Raises ConfigError where there is none, CheckpointError and RefineError (with the
    worker's last words) where it cannot load, crashes, or does not answer within ``timeout`` seconds."""

    def __init__(
        self,
        reward: str,
        options: Mapping[str, Any],
        *,
        name: str,
        python: str | None = None,
        timeout: float = 600.0,
        batch_size: int = 16,
        device: str = "cpu",
        offline: bool = False,
    ) -> None:
        self.name, self.batch_size = name, batch_size
        self._worker = Worker(interpreter(reward, python), reward, timeout, offline)
        told = self._worker.ask({"reward": reward, "device": device, "options": dict(options)}, "protocol", dict)
        self.protocol: dict[str, Any] = {"model": reward, "backend": "official", "device": device, **told}

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        """One score for each (image, prompt) pair."""
        check_pairs(images, prompts)
        scores: list[float] = []
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            request = {"images": [_png(image) for image in images[part]], "prompts": list(prompts[part])}
            answer = self._worker.ask(request, "scores", list)
            if len(answer) != len(request["prompts"]) or not all(isinstance(one, int | float) for one in answer):
                raise RefineError(f"The official {self._worker.reward} worker gave {answer!r} for {len(request['prompts'])} images.")
            scores += map(float, answer)
        return scores

    def close(self) -> None:
        """End the process; it also ends with the interpreter."""
        self._worker.close()


class Worker:
    """A subprocess that answers each line of JSON with one line."""

    def __init__(self, python: Path, reward: str, timeout: float, offline: bool) -> None:
        self.reward, self.timeout = reward, timeout
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # -I: neither our PYTHONPATH nor the script's own folder, whose modules are named like others' packages, is searched.
        self._process = subprocess.Popen(
            [python, "-I", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"} | ({"HF_HUB_OFFLINE": "1"} if offline else {}),
        )
        self.close = weakref.finalize(self, _stop, self._process, self._log)

    def ask(self, request: Mapping[str, Any], key: str, kind: type) -> Any:
        """The answer's value under ``key``, of that kind. After any failure the process is gone."""
        late, process = threading.Event(), self._process

        def give_up() -> None:  # holds no reference to us: a worker ends with the last one
            late.set()
            process.kill()

        clock = threading.Timer(self.timeout, give_up)
        clock.daemon = True
        clock.start()
        line = b""
        try:
            line = self._exchange(json.dumps(request).encode() + b"\n")
        finally:
            clock.cancel()
            if not line:
                self._process.kill()  # an answer that comes later must not be taken for that of the next request
        if late.is_set():
            raise RefineError(f"The official {self.reward} worker gave no answer within {self.timeout:g} s. {self._last_words()}")
        return self._read(line, key, kind)

    def _exchange(self, line: bytes) -> bytes:
        """One line out, one line in; nothing where the process has gone."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(line)
            stdin.flush()
        except (OSError, ValueError):
            return b""
        return stdout.readline()

    def _read(self, line: bytes, key: str, kind: type) -> Any:
        if not line.endswith(b"\n"):
            code = self._process.wait()
            raise RefineError(f"The official {self.reward} worker has ended (exit code {code}). {self._last_words()}")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if isinstance(answer, Mapping) and isinstance(answer.get(key), kind):
            return answer[key]
        self._process.kill()
        if not isinstance(answer, Mapping) or "error" not in answer:
            raise RefineError(f"The official {self.reward} worker answered {redact(str(line[:200]))}, which is no {key}.")
        raise self._refusal(redact(str(answer["error"])), answer.get("kind"))

    def _refusal(self, reason: str, kind: object) -> RefineError:
        if kind == "package":
            return ConfigError(f"The official {self.reward} environment lacks a package ({reason}). Make it anew:\n{self._how()}")
        if kind == "checkpoint":
            return CheckpointError(f"The official {self.reward} package cannot load its weights: {reason}")
        return RefineError(f"The official {self.reward} package failed: {reason}")

    def _how(self) -> str:
        return official_environment(self.reward)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()[-TAIL:]
        return f"Its last words: {redact(' | '.join(lines))}" if lines else "It said nothing."


def _stop(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """A worker ends when its stdin does; one that does not is killed."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                continue
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    log.close()


def interpreter(reward: str, python: str | None) -> Path:
    """The interpreter that has the package: as configured, or by the environment variable."""
    given = python or os.environ.get(VARIABLE)
    if not given:
        raise ConfigError(
            f"backend=official runs the authors' package in an environment of its own. Set {VARIABLE} (or rewards.NAME.python) to its "
            f"interpreter. To make one (some 6 GB):\n{official_environment(reward)}"
        )
    path = Path(given).expanduser()
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise ConfigError(f"{given} is no interpreter that can be run; {VARIABLE} or rewards.NAME.python must name one.")
    return path


def checkpoint(source: str | Path, filename: str) -> dict[str, str]:
    """Where the worker finds a checkpoint in its original layout: a path here, or a file of a hub repository."""
    path = Path(source).expanduser()
    if path.is_file():
        return {"path": str(path.resolve())}
    if (path / filename).is_file():
        return {"path": str((path / filename).resolve())}
    if path.exists():
        raise CheckpointError(f"{path} holds no {filename}. The official packages read their own checkpoints only; give that file.")
    return {"repo": str(source), "filename": filename}


def _png(image: Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
