"""report.html of a real (tiny) run: self-contained, escaped, complete."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refine import loop, store
from refine.errors import InputError
from refine.jobs import Job
from refine.policy import Policy
from refine.report import write_report
from refine.report.markup import element
from refine.report.outline import outline
from refine.report.pictures import data_uri, shrink
from refine.report.words import arrow, count, percent, score
from refine.reviser import TemplateReviser
from refine.types import Mask
from tests.toys import Painter, Smoothness, Spotter, picture, scratched

HOSTILE = '<script>alert(1)</script> "quoted" & <img src=x onerror=alert(2)> </title></style>'
BOXES = [(10, 8, 26, 20), (50, 20, 70, 40)]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images: one repaired, one clean from the start, one where every candidate is noise."""
    folder, target = tmp_path_factory.mktemp("runs") / "first <run>", picture(1)
    config = {"note": HOSTILE}
    jobs = [Job(0, "a", HOSTILE, 5), Job(1, "b", "a plain picture", 6), Job(2, "c", "rejected", 7)]
    images = [scratched(target, BOXES[:1]), target, scratched(target, BOXES)]
    run = store.create(folder, config, ["toys"], jobs)
    for job, image, clumsy in zip(jobs, images, (0, 0, 10**9), strict=True):
        models = loop.Models(Painter(target, clumsy=clumsy), Spotter(target), (Smoothness(),), TemplateReviser())
        (outcome,) = loop.run([job.prompt], [job.seed], models=models, images=[image], policy=Policy("inpaint", crop_least=24))
        store.save(run, job, outcome)
    return folder


@pytest.fixture(scope="module")
def text(run_dir: Path) -> str:
    return write_report(run_dir).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Every start tag with its attributes, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_page_is_whole_and_lies_in_the_run_folder(run_dir: Path, text: str) -> None:
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>")
    assert (run_dir / "report.html").read_text(encoding="utf-8") == text
    assert sum(tag == "article" for tag, _ in Page(text).tags) == 3


def test_nothing_leaves_the_page(text: str) -> None:
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "poster", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("data:image/webp;base64,", "#"))
        assert not [name for name in attributes if name.startswith("on")]
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "url(" not in text.split("</style>")[0]


def test_text_is_escaped_everywhere(text: str) -> None:
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert HOSTILE in page.words
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "first <run>" in page.words


def test_every_attempt_shows_candidates_and_reasons(text: str) -> None:
    page = Page(text)
    assert "✓ kept" in page.words
    assert "✕ rejected" in page.words
    assert "the fault inside the mask did not shrink enough" in page.words
    assert "a black box" in page.words
    assert "It hides the picture." in page.words
    assert "The controller found nothing wrong with this image." in page.words
    assert "unchanged: no repair was better" in page.words


def test_images_have_words_and_the_slider_a_name(text: str) -> None:
    tags = Page(text).tags
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    sliders = [attributes for tag, attributes in tags if tag == "input"]
    assert len(sliders) == 3
    assert all(attributes["type"] == "range" and attributes["aria-label"] for attributes in sliders)
    faults = [attributes for tag, attributes in tags if tag == "g"]
    assert faults
    assert all(attributes["tabindex"] == "0" and "a black box" in str(attributes["aria-label"]) for attributes in faults)


def test_run_without_finished_images(tmp_path: Path) -> None:
    store.create(tmp_path / "run", {}, [], [])
    assert "No image is finished yet." in write_report(tmp_path / "run").read_text(encoding="utf-8")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.yaml"):
        write_report(tmp_path)


def test_element_escapes_text_and_attributes() -> None:
    made = element("a", "1 < 2", None, 3, class_='"x"', aria_label="&", hidden=True, title=None, open=False)
    assert made.text == '<a class="&quot;x&quot;" aria-label="&amp;" hidden>1 &lt; 23</a>'
    assert element("img", alt="").text == '<img alt="">'


def filled(path: str, shape: tuple[int, int]) -> Mask:
    """The pixels inside a path of h and v moves, by the even-odd rule: each vertical edge flips all that is right of it."""
    flips = np.zeros((shape[0], shape[1] + 1), np.int64)
    x = y = 0
    for command, numbers in re.findall(r"([Mhv])([-\d ]+)", path):
        if command == "M":
            x, y = map(int, numbers.split())
        elif command == "h":
            x += int(numbers)
        else:
            low, high = sorted((y, y + int(numbers)))
            flips[low:high, x] += 1
            y += int(numbers)
    return np.asarray(flips.cumsum(axis=1)[:, :-1] % 2 == 1)


@settings(max_examples=60)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_outline_fills_exactly_the_mask(mask: Mask) -> None:
    assert np.array_equal(filled(outline(mask), (mask.shape[0], mask.shape[1])), mask)


def test_outline_of_pixels_that_touch_at_a_corner() -> None:
    assert outline(np.eye(2, dtype=bool)) == "M0 0h1v1h-1v-1zM1 1h1v1h-1v-1z"


@settings(max_examples=60)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)), st.integers(1, 6))
def test_shrink_loses_no_pixel(mask: Mask, step: int) -> None:
    back = np.kron(shrink(mask, step), np.ones((step, step), bool))[: mask.shape[0], : mask.shape[1]]
    assert not (mask & ~back).any()


def test_pictures_are_made_small() -> None:
    image = picture(2, 2048, 600)
    assert len(data_uri(image, 384)) < len(data_uri(image, 1024))
    assert image.size == (2048, 600)


def test_words() -> None:
    assert [percent(x) for x in (0, 0.0004, 0.0123, 0.5, None)] == ["0 %", "< 0.1 %", "1.2 %", "50 %", "–"]
    assert [score(x) for x in (-0.28, 12.345, None)] == ["−0.2800", "12.35", "–"]
    assert score(0.5, signed=True) == "+0.5000"
    assert [count(x) for x in (-1e-9, 12.6, None)] == ["0", "13", "–"]
    assert arrow("1", "1") == "1"
    assert arrow("1", "2") == "1 → 2"
