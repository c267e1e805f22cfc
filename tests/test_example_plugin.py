"""The example package is a reward: by its module's name, by its entry point, and (slow) when pip has installed it."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import PIL.Image
import pytest

from refine import config, plugins, runner
from refine.errors import ConfigError, InputError, RefineError

EXAMPLE = Path(__file__).parent.parent / "examples" / "reward_plugin"
TARGET = "refine_reward_vlm:VlmJudge"


class Judge(BaseHTTPRequestHandler):
    """Says yes with the probability of the picture's grey level, in two spellings; some questions are commands."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        picture, text = body["messages"][0]["content"]
        image = PIL.Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].partition(",")[2])))
        level = image.convert("L").getpixel((0, 0)) / 255
        yes, no = max(level, 1e-9), max(1 - level, 1e-9)
        tokens = {"Yes": yes * 0.5, " yes": yes * 0.25, "No": no * 0.75, "maybe": 0.25}
        if "odd" in text["text"]:
            tokens = {"maybe": 1.0}
        listed = [{"token": token, "logprob": math.log(share)} for token, share in tokens.items()]
        answer = {"choices": [{"logprobs": None if "mute" in text["text"] else {"content": [{"top_logprobs": listed}]}}]}
        known = body["model"] == "judge" and self.headers["Authorization"] in (None, "Bearer open sesame")
        content = json.dumps(answer).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Judge) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)


def grey(*levels: int) -> list[PIL.Image.Image]:
    return [PIL.Image.new("RGB", (20, 12), (level, level, level)) for level in levels]


def judge(url: str, /, **options: object) -> object:
    return plugins.create("reward", TARGET, {"model": "judge", "url": url} | options)


def test_it_scores(importable: None, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "open sesame")
    reward = judge(url, key_env="JUDGE_KEY")
    found = reward.score(grey(51, 204, 255), ["a", "b", "c"])  # type: ignore[attr-defined]
    assert found == pytest.approx([0.2, 0.8, 1.0], abs=1e-6)
    assert math.isnan(reward.score(grey(1), ["odd"])[0])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "prompt", "words"),
    [
        ({"model": "other"}, "a", "answered 404 for the model 'other'"),
        ({}, "mute", "gives no log probabilities"),
        ({"url": "http://127.0.0.1:9/v1"}, "a", r"Cannot ask http://127\.0\.0\.1:9/v1"),
    ],
)
def test_its_failures_are_errors_for_people(importable: None, url: str, options: dict[str, str], prompt: str, words: str) -> None:
    with pytest.raises(RefineError, match=words):
        judge(url, **options).score(grey(1), [prompt])  # type: ignore[attr-defined]


def test_its_wrong_use_is_named(importable: None, url: str) -> None:
    with pytest.raises(InputError, match="2 images but 1 prompts"):
        judge(url).score(grey(1, 2), ["a"])  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"must hold \{text\}"):
        judge(url, question="Is it good?")
    with pytest.raises(ConfigError, match="no such environment variable"):
        judge(url, key_env="NOBODY_SETS_THIS")


def test_its_constructor_is_its_configuration(importable: None, url: str) -> None:
    told = [f"rewards.mine.use={TARGET}", "rewards.mine.model=judge", f"rewards.mine.url={url}"]
    node = config.load(["painter"], told).tree["rewards"]["mine"]
    assert node["name"] == "mine" and node["timeout"] == 60.0
    assert runner.make("reward", node).score(grey(255), ["a"]) == pytest.approx([1.0], abs=1e-6)
    with pytest.raises(ConfigError, match=r"Did you mean 'rewards\.mine\.model'") as caught:
        config.load(["painter"], [told[0], "rewards.mine.modle=x"])
    assert any("rewards.mine.model is required" in fault for fault in caught.value.faults)


def test_its_entry_point_gives_it_a_name(importable: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]["refine.plugins"]
    metadata = tmp_path / "refine_reward_vlm-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: refine-reward-vlm\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[refine.plugins]\n" + "".join(f"{k} = {v}\n" for k, v in declared.items()))
    monkeypatch.syspath_prepend(tmp_path)
    plugins._entry_points.cache_clear()
    try:
        assert plugins.names("reward")["vlm"] == TARGET
        assert "question" in plugins.schema(plugins.find("reward", "vlm"))
    finally:
        plugins._entry_points.cache_clear()


@pytest.mark.slow
def test_pip_installs_it(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "source")  # setuptools builds beside the sources
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(tmp_path / "source")], check=True, capture_output=True)
    code = "from refine import plugins; print(plugins.find('reward', 'vlm').__name__)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(EXAMPLE.parent.parent)])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "VlmJudge"
