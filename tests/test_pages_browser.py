"""The report and the comparison in a real browser: what the script does, that nothing is asked for, that nothing overflows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from refine.report import write_report
from refine.report.comparison import write_comparison
from refine.report.pairing import sides
from tests.browser import CHROMIUM, Browser, browser
from tests.test_report import run_dir

__all__ = ["run_dir"]  # the fixture: one image repaired, one clean, one where every candidate was rejected

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]

CHOOSE = (
    "(() => {{ const one = document.querySelector('[data-filter={0}]'); one.value = '{1}'; one.dispatchEvent(new Event('change')); }})()"
)
TYPE = "(() => {{ const one = document.getElementById('search'); one.value = '{0}'; one.dispatchEvent(new Event('input')); }})()"
COUNT = "document.getElementById('count').textContent"
SEEN = "[...document.querySelectorAll('.item:not([hidden])')].map((item) => item.id)"
FOCUSED = "document.activeElement.closest('.item')?.id"
WAIT = "new Promise((done) => setTimeout(done, 300))"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(params=[True, False], ids=["embedded", "linked"], scope="module")
def page(request: pytest.FixtureRequest, run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moved") / "a #1? run"
    shutil.copytree(run_dir, folder)
    return write_report(folder, embed=request.param).absolute()


def test_every_picture_arrives_and_nothing_else_is_asked_for(chromium: Browser, page: Path) -> None:
    chromium.complaints.clear()
    chromium.open(page)
    loaded = (
        "Promise.all([...document.images].map((one) => { one.loading = 'eager'; return one.decode(); })).then(() => document.images.length)"
    )
    assert chromium.value(loaded) > 5
    assert chromium.complaints == []


@pytest.mark.parametrize("width", [390, 820, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows(chromium: Browser, page: Path, width: int, scheme: str) -> None:
    chromium.open(page, width, scheme)
    assert chromium.value("document.documentElement.scrollWidth") <= width
    dark = chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 23)"
    assert dark == (scheme == "dark")


def test_filters_and_search(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    assert chromium.value(COUNT) == "3 images"
    chromium.value(CHOOSE.format("outcome", "rejected"))
    assert (chromium.value(COUNT), chromium.value(SEEN)) == ("1 of 3 images", ["image-3"])
    chromium.value(CHOOSE.format("outcome", ""))
    chromium.value(CHOOSE.format("reasons", "stop:clean"))
    assert chromium.value(SEEN) == ["image-1", "image-2"]
    chromium.value(TYPE.format("PLAIN pict"))
    chromium.value(WAIT)
    assert chromium.value(SEEN) == ["image-2"]
    chromium.value(TYPE.format("black box"))
    chromium.value(WAIT)
    assert chromium.value(SEEN) == ["image-1"], "explanations are searched too"


def test_keys(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.value("for (const item of document.querySelectorAll('.item')) item.open = false")
    chromium.press("j")
    assert chromium.value(FOCUSED) == "image-1"
    chromium.press("Enter", "ArrowRight", "ArrowRight")
    at = "document.querySelector('.compare').style.getPropertyValue('--at')"
    assert chromium.value(at) == "60%"
    chromium.press("ArrowLeft", modifiers=8)
    assert chromium.value(at) == "0%"
    chromium.press("j")
    assert chromium.value("[...document.querySelectorAll('.item')].map((item) => item.open)") == [False, True, False], (
        "an open one hands on"
    )
    chromium.press("k")
    assert chromium.value(FOCUSED) == "image-1"
    marks = "getComputedStyle(document.querySelector('.marks')).display"
    assert chromium.value(marks) != "none"
    chromium.press("m")
    assert chromium.value(marks) == "none"
    chromium.press("t", "t")
    assert chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 23)", "dark, though the system is light"
    chromium.press("t")
    chromium.press("?")
    assert chromium.value("document.getElementById('help').open")
    chromium.press("j")
    assert chromium.value("document.getElementById('help').open"), "keys rest while the help is open"
    chromium.value("document.getElementById('close').click()")
    chromium.press("/", "j", "m")
    assert chromium.value("document.getElementById('search').value") == "jm", "in the search field a letter is a letter"


def test_an_address_opens_its_image(chromium: Browser, page: Path) -> None:
    chromium.open(page, fragment="#image-2")
    chromium.press("j")
    assert chromium.value(FOCUSED) == "image-3", "the keys go on from there"
    chromium.value("for (const item of document.querySelectorAll('.item')) item.open = false")
    chromium.value("location.hash = '#image-1'")
    chromium.value(WAIT)
    assert chromium.value("[...document.querySelectorAll('.item')].map((item) => item.open)") == [True, False, False]


def test_a_comparison(chromium: Browser, run_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    page = write_comparison(tmp_path / "compare.html", sides([run_dir, other]), [[]])
    chromium.complaints.clear()
    for width in (390, 1300):
        chromium.open(page, width)
        assert chromium.value("document.documentElement.scrollWidth") <= width
    chromium.value(TYPE.format("plain"))
    chromium.value(WAIT)
    assert chromium.value(COUNT) == "1 of 3 images"
    chromium.press("Escape", "j")
    assert chromium.value(FOCUSED) == "image-2"
    assert chromium.complaints == []
