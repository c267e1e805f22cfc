"""The page in a real browser: draw, brush, repair, decide, download, two users, a reload, a closed tab, and what must be refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import PIL.Image
import pytest

from refine import record
from refine.errors import InputError
from refine.record import unrle
from refine.stilllife.prompts import DEFAULT_PROMPTS
from tests.browser import CHROMIUM, Browser, browser

pytest.importorskip("gradio")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0  # seconds; the machine of a test may be busy
CENTRE = "(() => {{ const one = document.querySelector('{0}').getBoundingClientRect(); return [one.x, one.y, one.width, one.height]; }})()"
NAME = "localStorage.getItem('refine-draft')"


class Server:
    """A running page: its address and its folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    def drafts(self) -> set[Path]:
        return {path.parent for path in self.folder.glob("*/run.yaml")}

    def record(self, draft: Path) -> dict[str, Any]:
        item = next((draft / "items").glob("[!.]*"))
        return record.read_json(item)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("drafts")
    command = [sys.executable, "-m", "refine", "ui", "--preset", "painter", "--port", "0", "--out", str(folder)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, f"the server said {line!r}"
    try:
        until(lambda: httpx2.get(found[0]).status_code == 200)
        yield Server(found[0], folder)
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


@pytest.fixture
def user(server: Server, tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path / "profile") as page:
        visit(page, server)
        yield page


def until(true: Any) -> Any:
    """Wait for something to become true; what it came to."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if answer := true():
                return answer
        except (httpx2.HTTPError, InputError, StopIteration):
            pass  # not there yet, or being replaced
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def visit(page: Browser, server: Server, width: int = 1300) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    page.call("Page.navigate", url=server.url)
    until(lambda: page.value("!!document.querySelector('#start')"))


def reload(page: Browser) -> None:
    page.value("window.old = true")
    page.call("Page.reload")
    until(lambda: page.value("!window.old && !!document.querySelector('#upload input[type=file]')"))


def write(page: Browser, prompt: str) -> None:
    page.value("document.querySelector('#prompt textarea').select()")
    page.call("Input.insertText", text=prompt)


def click(page: Browser, name: str) -> None:
    page.value(f"document.querySelector('#{name}').click()")


def draw(page: Browser, server: Server, prompt: str = DEFAULT_PROMPTS[0]) -> Path:
    """Start a drawing and wait for it: the folder of the draft."""
    before = server.drafts()
    write(page, prompt)
    click(page, "start")
    until(lambda: page.value("!!document.querySelector('#overlay img')"))
    (made,) = server.drafts() - before
    return made


def rounds(server: Server, draft: Path, count: int) -> list[Any]:
    return until(lambda: len(found := server.record(draft)["rounds"]) == count and found)  # type: ignore[no-any-return]


def toast(page: Browser) -> str:
    said: str = until(lambda: page.value("[...document.querySelectorAll('.toast-body')].map((one) => one.innerText).join(' ')"))
    return said


def stroke(page: Browser) -> None:
    """Brush across the middle of the picture."""
    page.value("document.querySelector('#brush').scrollIntoView()")
    until(lambda: page.value("!!document.querySelector('#brush canvas')"))
    time.sleep(2)  # the canvas fades in
    x, y, width, height = page.value(CENTRE.format("#brush canvas"))
    path = [(x + width * (0.45 + 0.02 * step), y + height / 2) for step in range(6)]
    kinds = ["mousePressed", *["mouseMoved"] * 5, "mouseReleased"]
    for kind, (at, down) in zip(kinds, [*path, path[-1]], strict=True):
        page.call("Input.dispatchMouseEvent", type=kind, x=at, y=down, button="left", buttons=1, clickCount=1)
    time.sleep(1)


def elsewhere(page: Browser, server: Server) -> list[str]:
    """What the browser was asked to load from anywhere but the page's own server."""
    own = (f"request for {server.url}", "request for blob:", "request for about:", "request for chrome")
    return [one for one in page.complaints if one.startswith("request for ") and not one.startswith(own)]


def test_draw_brush_repair_decide_download(user: Browser, server: Server, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    user.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
    draft = draw(user, server)
    first = server.record(draft)
    for box in range(len(first["first"]["critique"]["regions"])):
        user.value(f"document.querySelectorAll('#found input')[{box}].click()")
    stroke(user)
    click(user, "repair")
    (turn,) = rounds(server, draft, 1)
    action = turn["attempts"][0]["action"]
    assert "a mask of the user's own" in action["note"]
    assert "finding" not in action["note"], "all findings were unticked"
    mask = unrle(action["region"]["mask"])
    assert 0 < mask.mean() < 0.5
    assert mask[mask.shape[0] // 2].any(), "the stroke went through the middle"
    until(lambda: user.value("document.querySelectorAll('#options input').length") == 4)
    user.value("document.querySelectorAll('#options input')[2].click()")
    click(user, "decide")
    until(lambda: server.record(draft)["rounds"][0]["attempts"][0]["kept"] == 1)
    assert "decided by hand: candidate 2" in server.record(draft)["rounds"][0]["attempts"][0]["action"]["note"]
    until(lambda: "candidate 2: kept" in user.value("document.querySelector('#gallery').innerText"))
    item = next((draft / "items").glob("[!.]*"))
    for name, file in (("image", "final.png"), ("record", "record.json")):
        click(user, name)
        assert until(lambda file=file: (saved / file).is_file() and (saved / file).read_bytes()) == (item / file).read_bytes()
    click(user, "finish")
    until(lambda: (draft / "report.html").is_file())
    assert elsewhere(user, server) == []


def test_a_second_click_repairs_once(user: Browser, server: Server) -> None:
    draft = draw(user, server)
    user.value("document.querySelector('#repair').click(); document.querySelector('#repair').click()")
    rounds(server, draft, 1)
    time.sleep(3)
    assert len(server.record(draft)["rounds"]) == 1


def test_a_reload_in_the_middle_and_a_closed_tab_lose_nothing(user: Browser, server: Server) -> None:
    before = server.drafts()
    write(user, DEFAULT_PROMPTS[1])
    click(user, "start")
    until(lambda: server.drafts() - before and user.value(f"({NAME} ?? '').length > 2"))
    reload(user)
    until(lambda: user.value("!!document.querySelector('#overlay img')"))
    (draft,) = server.drafts() - before
    until(lambda: user.value("!!document.querySelector('#found input')"))
    time.sleep(2)  # the canvas fades in
    click(user, "repair")
    until(lambda: re.search("processing|Round 1", user.value("document.querySelector('#status').innerText")))
    user.call("Page.navigate", url="about:blank")
    rounds(server, draft, 1)
    visit(user, server)
    until(lambda: user.value("document.querySelectorAll('#options input').length") == 4)


def test_two_users_at_once_have_their_own_pictures(user: Browser, server: Server, tmp_path: Path) -> None:
    before = server.drafts()
    with browser(tmp_path / "other") as other:
        visit(other, server)
        for page, prompt in ((user, DEFAULT_PROMPTS[2]), (other, DEFAULT_PROMPTS[3])):
            write(page, prompt)
            click(page, "start")
        for page in (user, other):
            until(lambda page=page: page.value("!!document.querySelector('#overlay img')"))
        shown = [page.value("document.querySelector('#status .prompt').textContent") for page in (user, other)]
    assert shown == [DEFAULT_PROMPTS[2], DEFAULT_PROMPTS[3]]
    assert {server.record(draft)["prompt"] for draft in server.drafts() - before} == set(shown)


def test_html_in_a_prompt_is_text(user: Browser) -> None:
    evil = "<img src=x onerror='window.hit=1'><script>window.hit=1</script>"
    write(user, evil)
    click(user, "start")
    assert "<img" in toast(user), "the preset refuses the caption, and says which"
    assert user.value("window.hit") is None


def upload(page: Browser, file: Path) -> None:
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#upload input[type=file]")["nodeId"]
    page.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)


def test_an_upload_and_one_that_is_too_large(user: Browser, server: Server, tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(200_000_000)
    upload(user, tmp_path / "huge.png")
    assert "size" in toast(user).lower()
    assert not [path for path in server.folder.rglob("huge*") if path.is_file()]
    reload(user)
    PIL.Image.fromarray(np.full((60, 90, 3), 128, np.uint8)).save(tmp_path / "mine.png")
    before = server.drafts()
    upload(user, tmp_path / "mine.png")
    until(lambda: "mine" in user.value("document.querySelector('#upload').innerText"))
    write(user, DEFAULT_PROMPTS[0])
    click(user, "start")
    until(lambda: user.value("!!document.querySelector('#overlay img')"))
    (draft,) = server.drafts() - before
    assert server.record(draft)["size"] == [90, 60]


@pytest.mark.parametrize("width", [390, 1300])
def test_nothing_overflows(user: Browser, server: Server, width: int) -> None:
    draw(user, server)
    visit(user, server, width)
    until(lambda: user.value("!!document.querySelector('#overlay img')"))
    assert user.value("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", str(ROOT / "pyproject.toml"), "pyproject.toml"])
def test_files_elsewhere_cannot_be_had(server: Server, path: str) -> None:
    for name in (path, f"{server.folder}/../{path}", f"{server.folder}/%2e%2e/{path}"):
        assert httpx2.get(f"{server.url}/gradio_api/file={name}").status_code in (403, 404)


def test_other_names_of_the_server_and_large_bodies_are_refused(server: Server) -> None:
    assert httpx2.get(server.url, headers={"Host": "evil.example"}).status_code == 400
    answer = httpx2.post(f"{server.url}/gradio_api/upload", files={"files": ("big.png", bytes(30 * 2**20))})
    assert answer.status_code == 413
    policy = httpx2.get(server.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in json.dumps(policy)
