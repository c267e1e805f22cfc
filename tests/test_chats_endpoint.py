"""A chat model behind a server: what it does when it misbehaves, and where the key never shows."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import time
import traceback
from dataclasses import fields
from email.utils import formatdate

import numpy as np
import PIL.Image
import pytest

from refine import config, runner
from refine.chats.endpoint import LARGEST, Endpoint
from refine.errors import AnswerError, ConfigError
from refine.types import Question
from tests.chat_server import Reply, Story, floods, hangs, raw, says, serving, trickles
from tests.toys import picture

KEY = "sk-test/5ecret+Value=="
ENV = "REFINE_TEST_KEY"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV, KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def endpoint(story: Story, **settings: object) -> Endpoint:
    quick = {"timeout": 20.0, "pause": 0.01, "retries": 2, "key_env": ENV} | settings
    return Endpoint(story.url, "tiny", **quick)  # type: ignore[arg-type]


def ask(story: Story, **settings: object) -> str:
    return endpoint(story, **settings).ask([Question("What is wrong?")])[0]


def test_a_question_is_asked_as_the_protocol_wants_it() -> None:
    image = picture(3, 40, 24)
    with serving(says("All is well.")) as story:
        chat = endpoint(story, max_tokens=7, extra={"seed": 5, "temperature": None})
        assert chat.ask([Question("What?", image, "Be brief.")]) == ["All is well."]
    [body] = story.bodies
    assert story.paths == ["/v1/chat/completions"]
    assert story.headers[0]["authorization"] == f"Bearer {KEY}"
    assert {name: body[name] for name in ("model", "max_tokens", "seed")} == {"model": "tiny", "max_tokens": 7, "seed": 5}
    assert "temperature" not in body
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    sent = base64.b64decode(user["content"][0]["image_url"]["url"].partition(",")[2])
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(sent))), np.asarray(image))


def test_without_a_variable_no_key_is_sent() -> None:
    with serving(says("yes")) as story:
        assert ask(story, key_env=None) == "yes"
    assert "authorization" not in story.headers[0]


def test_answers_come_in_the_order_of_the_questions() -> None:
    def echo(handler: object) -> None:
        text = handler.story.bodies[-1]["messages"][0]["content"]  # type: ignore[attr-defined]
        time.sleep(0.05 if text == "0" else 0)
        says(text)(handler)  # type: ignore[arg-type]

    with serving(echo) as story:  # parallel=1: the server's notes are in order
        assert endpoint(story, parallel=1).ask([Question(str(n)) for n in range(3)]) == ["0", "1", "2"]


def test_several_questions_are_on_their_way_at_once() -> None:
    all_here = threading.Barrier(4)

    def together(handler: object) -> None:
        all_here.wait(20)
        says("done")(handler)  # type: ignore[arg-type]

    with serving(together) as story:
        assert endpoint(story, parallel=4).ask([Question("a")] * 4) == ["done"] * 4


FAULTS = [
    ([hangs], "did not answer within 0.5 s (tried 3 times)", 3),
    ([trickles], "did not finish within 0.5 s", 3),
    ([raw(500, "oops")], "refuses (HTTP 500): 'oops' (tried 3 times)", 3),
    ([raw(401, json.dumps({"error": f"Incorrect API key provided: {KEY}"}))], "Check the key", 1),
    ([raw(400, KEY.replace("/", "\\/"))], "refuses (HTTP 400)", 1),
    ([raw(404, "<html>no such page</html>", "text/html")], "url (it ends in /v1)", 1),
    ([raw(200, "<html>Welcome</html>", "text/html")], "no chat completion: '<html>Welcome</html>'. Should url end in /v1?", 1),
    ([raw(200, "{nonsense")], "no chat completion", 1),
    ([raw(200, "[" * 100_000)], "no chat completion", 1),
    ([raw(200, '{"choices": []}')], "no chat completion", 1),
    ([raw(200, '{"choices": [null]}')], "no chat completion", 1),
    ([raw(200, '"text"')], "no chat completion", 1),
    ([says("  \n")], "an empty answer", 1),
    ([says(None)], "an empty answer", 1),
    ([floods], f"more than {LARGEST // 2**20} MiB", 1),
    ([raw(429, "slow down", Retry_After="3600")], "asks to wait 3600 s", 1),
]


@pytest.mark.parametrize(("replies", "message", "requests"), FAULTS)
def test_a_misbehaving_server_is_named_and_the_key_is_not(
    replies: list[Reply], message: str, requests: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    timeout = 0.5 if replies[0] in (hangs, trickles) else 20.0
    with serving(*replies) as story, pytest.raises(AnswerError) as raised:
        ask(story, timeout=timeout)
    assert message in str(raised.value)
    assert f"127.0.0.1:{story.port} (tiny)" in str(raised.value)
    assert len(story.bodies) == requests
    everything = "".join(traceback.format_exception(raised.value)) + repr(raised.value) + caplog.text
    everything += "".join(repr(vars(record)) for record in caplog.records)
    assert KEY not in everything
    assert KEY.replace("/", "\\/") not in everything


def test_a_closed_port_is_named() -> None:
    with serving(says("x")) as story:
        pass
    with pytest.raises(AnswerError, match=r"cannot be reached: .*Is the server running"):
        ask(story)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again(status: int) -> None:
    with serving(raw(status, "busy"), says("done")) as story:
        assert ask(story) == "done"
    assert len(story.bodies) == 2


def test_a_dropped_connection_is_tried_again() -> None:
    def drops(handler: object) -> None:
        handler.connection.close()  # type: ignore[attr-defined]

    with serving(drops, says("done")) as story:
        assert ask(story) == "done"


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_obeyed(form: str) -> None:
    value = "1" if form == "seconds" else formatdate(time.time() + 3600, usegmt=True)
    with serving(raw(429, "busy", Retry_After=value), says("done")) as story:
        if form == "seconds":
            assert ask(story) == "done"
            assert story.times[1] - story.times[0] >= 1.0
        else:
            with pytest.raises(AnswerError, match=r"asks to wait 3[56]\d\d s"):
                ask(story)


def test_pauses_grow_and_are_bounded_by_retries() -> None:
    with serving(raw(503, "busy")) as story, pytest.raises(AnswerError, match="tried 4 times"):
        ask(story, retries=3, pause=0.08)
    gaps = np.diff(story.times)
    assert gaps[0] >= 0.04
    assert gaps[2] >= 0.16


def test_the_key_follows_no_redirect() -> None:
    with serving(says("stolen")) as thief, serving(raw(307, "", Location=f"{thief.url}/chat/completions")) as story:
        with pytest.raises(AnswerError, match="sends us elsewhere"):
            ask(story)
        assert len(story.bodies) == 1
        assert not thief.headers


def test_the_key_is_in_no_representation_and_no_stored_tree() -> None:
    with serving(says(f"Your key is {KEY}.")) as story:
        chat = endpoint(story)
        assert KEY not in repr(chat)
        assert all(KEY not in repr(getattr(chat, field.name)) for field in fields(chat))
        assert chat.ask([Question("What is my key?")]) == ["Your key is [key]."]
    tree = config.load(["painter"], ["reviser=endpoint", f"reviser.url={story.url}", "reviser.model=m", f"reviser.key_env={ENV}"]).tree
    assert KEY not in repr(tree)
    assert KEY not in repr(runner.make("reviser", tree["reviser"]))


@pytest.mark.parametrize("value", ["", "  ", "two words", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_unseen(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV, value)
    with pytest.raises(ConfigError, match=ENV) as raised:
        Endpoint("http://localhost/v1", "m", key_env=ENV)
    assert not value.strip() or value not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("localhost:8000", "up to /v1"),
        ("ftp://host/v1", "up to /v1"),
        ("http://", "up to /v1"),
        ("http://host:port/v1", "up to /v1"),
        ("https://me:secret@host/v1", "environment variable"),
        ("https://host/v1?api-key=secret", "environment variable"),
    ],
)
def test_an_address_that_cannot_be_used(url: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as raised:
        Endpoint(url, "m")
    assert "secret" not in str(raised.value)


def test_settings_out_of_range_are_told_together() -> None:
    with pytest.raises(ConfigError) as raised:
        Endpoint("http://host/v1", "m", retries=-1, parallel=0)
    assert len(raised.value.faults) == 2
