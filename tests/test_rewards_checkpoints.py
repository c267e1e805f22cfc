"""Files and hubs that cannot be used: always a CheckpointError with the next step, never a token in it."""

from __future__ import annotations

import json
import os
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from small_rewards import HEADS, hps_shapes, weights
from transformers import CLIPConfig, CLIPModel

from refine.errors import CheckpointError
from refine.evals import hub
from refine.evals.checkpoints import download, read_state
from refine.evals.clip_rewards import Aesthetic, PickScore
from refine.evals.clip_state import clip_from_state
from refine.evals.hps import HPSv2
from refine.evals.imagereward import ImageReward, bert_tokenizer

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz12345678"


class Exploit:
    """Pickled, it is an order to run a command."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.proof}",)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.pt"
    torch.save({"state_dict": {"a": torch.zeros(40, 40), "b": torch.ones(3)}}, path)
    return path


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_truncated(good: Path, tmp_path: Path, share: float) -> None:
    whole = good.read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=r"cut\.pt is not a readable checkpoint .* get it again"):
        read_state(tmp_path / "cut.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 100, b"<!DOCTYPE html><title>404</title>", b'{"a": 1}', b"version https://git-lfs/spec/v1\n", bytes(range(256))],
    ids=["empty", "zeros", "html", "json", "lfs pointer", "bytes"],
)
def test_foreign_bytes(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a readable checkpoint"):
        read_state(path)


def test_a_changed_byte_never_raises_anything_else(good: Path, tmp_path: Path) -> None:
    whole = bytearray(good.read_bytes())
    for place in range(0, len(whole), 211):
        changed = whole.copy()
        changed[place] ^= 0x55
        (tmp_path / "changed.pt").write_bytes(changed)
        try:
            state = read_state(tmp_path / "changed.pt")
        except CheckpointError:
            continue
        assert state.keys() <= {"a", "b"} or all(isinstance(key, str) for key in state)


def test_a_zip_that_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "file.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_state(tmp_path / "file.pt")


def test_code_is_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    torch.save({"state_dict": Exploit(proof)}, tmp_path / "code.pt")
    for load in (read_state, HPSv2.from_pretrained, ImageReward.from_pretrained):
        with pytest.raises(CheckpointError, match="hold code"):
            load(tmp_path / "code.pt")
    (tmp_path / "hf").mkdir()
    torch.save(Exploit(proof), tmp_path / "hf" / "pytorch_model.bin")
    (tmp_path / "hf" / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(CheckpointError, match="hold code"):
        PickScore.from_pretrained(tmp_path / "hf")
    assert not proof.exists()


@pytest.mark.parametrize("value", [3, [1, 2], {"a": "text"}, torch.zeros(3), {"state_dict": {"a": {"b": torch.zeros(1)}}}])
def test_not_a_state_dict(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match="holds no mapping of names to tensors"):
        read_state(tmp_path / "file.pt")


def test_other_shapes_and_heads_are_named() -> None:
    state = {key: weights(key, shape) for key, shape in hps_shapes().items()}
    with pytest.raises(CheckpointError, match=r"wrong shape text_model\.final_layer_norm\.weight"):
        clip_from_state(state | {"ln_final.weight": torch.ones(9)}, 2, 2)
    with pytest.raises(CheckpointError, match=r"visual\.conv1\.weight has the shape \(3,\), not 4 dimensions"):
        clip_from_state(state | {"visual.conv1.weight": torch.ones(3)}, 2, 2)
    with pytest.raises(CheckpointError, match=r"width 24 cannot have 7 attention heads\. Set vision_heads"):
        clip_from_state(state, 7, 2)
    odd = state | {"transformer.resblocks.0.attn.in_proj_weight": torch.ones(47, 16)}
    with pytest.raises(CheckpointError, match="wrong shape"):
        clip_from_state(odd, **HEADS)
    with pytest.raises(CheckpointError, match="unexpected extra"):
        clip_from_state(state | {"extra": torch.ones(1)}, **HEADS)
    with pytest.raises(CheckpointError, match=r"transformers' names\. Give their folder"):
        clip_from_state({"vision_model.embeddings.class_embedding": torch.ones(1)}, 2, 2)


def test_a_vocabulary_of_its_own_must_be_there(tmp_path: Path) -> None:
    tower = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "hidden_act": "gelu"}
    config = CLIPConfig(
        vision_config={**tower, "image_size": 28, "patch_size": 14}, text_config={**tower, "vocab_size": 40}, projection_dim=4
    )
    CLIPModel(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="text tower of 40 tokens and a tokenizer of"):
        HPSv2.from_pretrained(tmp_path)


def test_folders_say_what_they_lack(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither config\.json nor HPS_v2\.1"):
        HPSv2.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        PickScore.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        PickScore.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"no hub id .*the nearest folder that exists is"):
        HPSv2.from_pretrained(tmp_path / "absent" / "file.pt")


# ---- the hub


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does; the repository's name says what is wrong with it."""

    def do_HEAD(self) -> None:
        owner, name = self.path.strip("/").split("/")[:2]
        status, code = {
            "gated": (403, "GatedRepo"),
            "unknown": (401, "RepoNotFound"),
            "nofile": (404, "EntryNotFound"),
            "refused": (401, ""),
            "gone": (410, ""),
        }[name]
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", f"{owner} said Bearer {TOKEN} at https://cdn/x?X-Amz-Signature=secret")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{made.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield
        made.shutdown()


@pytest.mark.parametrize(
    ("repo", "advice"),
    [
        ("owner/gated", "licence must be accepted first.*hf auth login"),
        ("owner/unknown", "no such repository to this login. Check the name; if it is private, run: hf auth login"),
        ("owner/refused", "hf auth login"),
        ("owner/nofile", "holds no such file. Check the name"),
        ("owner/gone", r"hf download owner/gone file\.pt"),
    ],
)
def test_a_hub_that_says_no(server: None, repo: str, advice: str) -> None:
    with pytest.raises(CheckpointError, match=advice) as caught:
        download(repo, "file.pt")
    assert repo in str(caught.value) and "file.pt" in str(caught.value)
    assert "abcdefgh" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    out_of_reach = "not in the hub's cache, and the hub is out of reach or switched off"
    for load in (HPSv2.from_pretrained, ImageReward.from_pretrained, PickScore.from_pretrained):
        with pytest.raises(CheckpointError, match=out_of_reach):
            load("owner/name", local_files_only=True)
    with pytest.raises(CheckpointError, match=out_of_reach):
        bert_tokenizer("owner/name", local_files_only=True)
    with pytest.raises(CheckpointError, match=out_of_reach):
        Aesthetic.from_pretrained("owner/name", local_files_only=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"with {TOKEN}!", "with hf_***!"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("https://user:pass@host/x", "https://***@host/x"),
        ("see https://cdn/x?sig=1&b=2 now", "see https://cdn/x now"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_redact(text: str, shown: str) -> None:
    assert hub.redact(text) == shown
