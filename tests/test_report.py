"""report.html of a real (tiny) run: complete, escaped, quick; one file, or links that move with the folder."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refine import loop, store
from refine.errors import InputError
from refine.gate import Gate
from refine.jobs import Job
from refine.policy import Policy
from refine.report import write_report
from refine.report.diff import revision
from refine.report.document import asset, inert
from refine.report.item import read_items
from refine.report.markup import element
from refine.report.masks import shrink
from refine.report.outline import outline
from refine.report.page import plots
from refine.report.pictures import cropped, data_uri
from refine.report.plots import scatter, steps
from refine.report.verdicts import why
from refine.report.words import arrow, count, percent, score
from refine.reviser import TemplateReviser
from refine.types import Candidate, Critique, Image, Mask, Record, Region
from tests.html_pages import Page
from tests.toys import Painter, Smoothness, Spotter, picture, scratched

HOSTILE = '<script>alert(1)</script> "quoted" & <img src=x onerror=alert(2)> </title></style>'
BOXES = [(10, 8, 26, 20), (50, 20, 70, 40)]


def made(folder: Path, jobs: Sequence[Job], target: Image, faulty: Sequence[Image], clumsy: Sequence[int]) -> Path:
    """A run over given images. ``clumsy``: per image, how often the painter paints noise."""
    gate = {"rule": "better", "fall": 0.3, "noise": {"smoothness": 0.5}}
    run = store.create(folder, {"note": HOSTILE, "gate": gate}, ["toys"], jobs)
    for job, image, often in zip(jobs, faulty, clumsy, strict=True):
        models = loop.Models(Painter(target, clumsy=often), Spotter(target), (Smoothness(),), TemplateReviser())
        policy, judge = Policy("inpaint", crop_least=24), Gate(noise={"smoothness": 0.5})
        (outcome,) = loop.run([job.prompt], [job.seed], models=models, images=[image], policy=policy, gate=judge)
        store.save(run, job, outcome)
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images: one repaired, one clean from the start, one where every candidate is noise."""
    target = picture(1)
    jobs = [Job(0, "a", HOSTILE, 5), Job(1, "b", "a plain picture", 6), Job(2, "c", "rejected", 7)]
    images = [scratched(target, BOXES[:1]), target, scratched(target, BOXES)]
    return made(tmp_path_factory.mktemp("runs") / "first <run>", jobs, target, images, (0, 0, 10**9))


@pytest.fixture(scope="module")
def text(run_dir: Path) -> str:
    return write_report(run_dir).read_text(encoding="utf-8")


def script_of(text: str) -> str:
    return text.rpartition("<script>")[2].removesuffix("</script></body></html>")


def policy_of(text: str) -> str:
    return next(str(a["content"]) for tag, a in Page(text).tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")


def test_page_is_whole_and_lies_in_the_run_folder(run_dir: Path, text: str) -> None:
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>")
    assert (run_dir / "report.html").read_text(encoding="utf-8") == text
    assert sum(tag == "article" for tag, _ in Page(text).tags) == 3
    assert not list(run_dir.glob(".report*"))


def test_nothing_leaves_a_small_page(text: str) -> None:
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "poster", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("data:image/webp;base64,", "#"))
        assert not [name for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in policy_of(text) and "img-src data:;" in policy_of(text)
    assert "url(" not in text.split("</style>")[0]


def test_only_the_page_s_own_script_may_run(text: str) -> None:
    digest = base64.b64encode(hashlib.sha256(script_of(text).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy_of(text)
    assert "innerHTML" not in script_of(text) and "eval(" not in script_of(text)


def test_text_is_escaped_everywhere(text: str) -> None:
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 2, "the data and the page's own"
    assert HOSTILE in page.words
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "first <run>" in page.words


def data_of(text: str) -> dict[str, list[dict[str, object]]]:
    """What a program reads: the text of the one script of type application/json, up to the first end tag."""
    return json.loads(text.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])  # type: ignore[no-any-return]


def test_machines_read_the_ledger_s_numbers(run_dir: Path, text: str) -> None:
    data = data_of(text)
    assert data["run"] == "first <run>"
    added = ("outcome", "reasons", "categories")
    assert [{key: one[key] for key in one if key not in added} for one in data["images"]] == store.ledger(run_dir)
    assert [one["outcome"] for one in data["images"]] == ["accepted", "untouched", "rejected"]


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_round_trips_and_stays_inside_its_script(data: object) -> None:
    text = inert({"data": data, "end": "</script><!--<script>"})
    assert "<" not in text
    assert json.loads(text)["data"] == data


def test_every_filter_finds_what_it_counts(text: str) -> None:
    page = Page(text)
    items = [attributes for tag, attributes in page.tags if tag == "details" and attributes.get("class") == "item"]
    found = {name: Counter(value for one in items for value in str(one[f"data-{name}"]).split("\n") if value) for name in FILTERS}
    assert found["outcome"] == {"accepted": 1, "untouched": 1, "rejected": 1}
    assert found["reasons"]["reject:fault-remains"] == 1 and found["reasons"]["stop:clean"] == 2
    assert found["categories"] == {"structure": 2}
    offered = {name: dict(options_of(text, name)) for name in FILTERS}
    assert offered == found


FILTERS = ("outcome", "reasons", "categories")


def options_of(text: str, name: str) -> list[tuple[str, int]]:
    """Value and number in brackets of every option of a filter, the one for everything left out."""
    select = text.partition(f'data-filter="{name}"')[2].partition("</select>")[0]
    return [(value, int(number)) for value, number in re.findall(r'<option value="([^"]+)">[^<]*\((\d+)\)', select)]


def test_every_attempt_shows_candidates_and_reasons(text: str) -> None:
    page = Page(text)
    assert "✓ kept" in page.words
    assert "✕ rejected" in page.words
    assert re.search(r"the fault (did not shrink \(|shrank by only )", page.words)
    assert "a black box" in page.words
    assert "It hides the picture." in page.words
    assert "The controller marks nothing here." in page.words
    assert "unchanged: no repair was better" in page.words


def test_images_have_words_and_the_slider_a_name(text: str) -> None:
    tags = Page(text).tags
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    sliders = [attributes for tag, attributes in tags if tag == "input" and attributes["type"] == "range"]
    assert len(sliders) == 1, "only one image was changed"
    assert all(attributes["aria-label"] for tag, attributes in tags if tag in ("input", "select"))
    faults = [attributes for tag, attributes in tags if tag == "g"]
    assert faults
    assert all(attributes["tabindex"] == "0" and "a black box" in str(attributes["aria-label"]) for attributes in faults)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_links_stay_in_the_folder_and_survive_a_move(run_dir: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(run_dir, moved)
    text = write_report(moved, embed=False).read_text(encoding="utf-8")
    tags = Page(text).tags
    links = {value for _, one in tags for name in ("src", "href") if (value := one.get(name)) and not value.startswith(("data:", "#"))}
    assert all(re.fullmatch(r"items/\w+/[\w./-]+", link) and ".." not in link for link in links)
    assert all((moved / link).is_file() for link in links)
    candidates = {str(path.relative_to(moved)) for path in moved.glob("items/*/candidates/*.png")}
    assert candidates and candidates <= links, "every candidate can be seen"
    lazy = [one for tag, one in tags if tag == "img" and not str(one["src"]).startswith("data:")]
    assert lazy and all(one["loading"] == "lazy" for one in lazy), "nothing is loaded before it is looked at"
    assert str(run_dir) not in text and str(moved) not in text


def test_a_crop_is_a_window_onto_the_linked_picture(run_dir: Path) -> None:
    """The window's place, computed back to pixels, is the box that was repainted."""
    item = next(read_items(run_dir, linked=True))
    box = item.attempts[0]["candidates"][0]["box"]
    window, picture = Page(cropped(item, "first.png", tuple(box), "x").text).tags
    across, down = map(int, re.findall(r"\d+", str(window[1]["style"])))
    width, left, top = (float(number) / 100 for number in re.findall(r"-?[\d.]+", str(picture[1]["style"])))
    assert (across, down) == (box[2] - box[0], box[3] - box[1])
    assert width * across == pytest.approx(item.data["size"][0], rel=1e-4)
    assert (-left * across, -top * down) == (pytest.approx(box[0], abs=0.01), pytest.approx(box[1], abs=0.01))


def many(folder: Path, number: int, scale: int) -> Path:
    """A run of ``number`` images of 80 × 48 pixels times ``scale``: one and its copies."""
    target = picture(1, 80 * scale, 48 * scale)
    boxes = [(10 * scale, 8 * scale, 26 * scale, 20 * scale)]
    made(folder, [Job(0, "0", "a picture", 0)], target, [scratched(target, boxes)], [0])
    (line,) = store.ledger(folder)
    first = store.item_folder(folder, line["key"])
    lines = [{**line, "key": f"{index:016x}", "index": index} for index in range(number)]
    for one in lines:
        shutil.copytree(first, store.item_folder(folder, one["key"]))
    (folder / store.LEDGER).write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return folder


def test_a_large_run_links_its_pictures_and_its_page_does_not_grow_with_them(tmp_path: Path) -> None:
    small, large = many(tmp_path / "small", 20, 1), many(tmp_path / "large", 20, 6)
    sizes = [write_report(folder).stat().st_size for folder in (small, large)]
    assert 'loading="lazy"' in (small / "report.html").read_text(encoding="utf-8")
    assert sizes[1] < 1.3 * sizes[0], "36 times the pixels"
    assert sizes[1] < 40_000 + 20 * 16_000, "at most 16 kB an image"


def test_memory_does_not_grow_with_the_page(tmp_path: Path) -> None:
    """The page is written in pieces: of what an image adds to it, only its line for programs stays in memory."""
    peaks, sizes = [], []
    for number in (16, 32):
        folder = many(tmp_path / f"{number}", number, 1)
        tracemalloc.start()
        sizes.append(write_report(folder, embed=True).stat().st_size)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.4 * (sizes[1] - sizes[0])


def test_run_without_finished_images(tmp_path: Path) -> None:
    store.create(tmp_path / "run", {}, [], [])
    assert "No image is finished yet." in write_report(tmp_path / "run").read_text(encoding="utf-8")


def test_a_fault_without_a_finite_score_is_shown(tmp_path: Path) -> None:
    image = picture(1)
    mask = np.zeros(image.size[::-1], np.bool_)
    mask[:9, :9] = True
    odd = Critique(image.size, (Region(mask, "odd fault", score=math.nan),), fake_probability=math.nan)
    first = Candidate(image, "p", 0, odd, {"x": math.nan})
    run = store.create(tmp_path / "run", {}, [], [Job(0, "a", "p", 0)])
    store.save(run, Job(0, "a", "p", 0), Record("p", 0, first, first, (), "clean"))
    assert "score –" in write_report(run.folder).read_text(encoding="utf-8")


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


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio of two colours #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_contrast_in_light_and_dark() -> None:
    """WCAG 2 AA: 4.5 for text, 3 for the borders of controls."""
    css = asset("report.css")
    pairs = {name: both for name, *both in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)}
    text = [
        ("ink", "paper"),
        ("soft", "paper"),
        ("soft", "card"),
        ("good", "good-wash"),
        ("bad", "card"),
        ("bad", "bad-wash"),
        ("link", "card"),
    ]
    for least, wanted in ((4.5, text), (3, [("edge", "paper"), ("edge", "card")])):
        for front, back in wanted:
            assert min(map(contrast, pairs[front], pairs[back])) >= least, (front, back)
    hues = re.findall(r"--hue: (#\w{6})", css)
    assert len(hues) == 8
    assert min(contrast(hue, "#ffffff") for hue in hues) >= 4.5, "white numbers on them"


@given(*[st.text("ab, <&", max_size=20)] * 2)
def test_a_revision_holds_both_prompts(old: str, new: str) -> None:
    """Without what is struck out it reads as the new prompt; if there is a common word, without what is inserted as the old one."""

    def reads(left_out: str) -> list[str]:
        return re.findall(r"[^\s,]+|,", "".join(words for kind, words in parts if kind != left_out))

    def words(text: str) -> list[str]:
        return re.findall(r"[^\s,]+|,", text)

    parts = Marked(revision(old, new).text).parts
    assert reads("del") == words(new)
    if {word for word in words(old) if word.isalnum()} & set(words(new)):
        assert reads("ins") == words(old)


def test_a_comma_does_not_make_a_word_another_one() -> None:
    assert revision("a hand", "a good hand, sharp").text == "a <ins>good</ins> hand<ins>, sharp</ins>"
    assert revision("a red cat", "a cat").text == "a <del>red</del> cat"
    assert revision("one", "two words").text == "<span>two words</span>"


class Marked(HTMLParser):
    """Text with the tag that it stands in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.parts: list[tuple[str, str]] = []
        self.tag = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = tag

    def handle_endtag(self, tag: str) -> None:
        self.tag = ""

    def handle_data(self, data: str) -> None:
        self.parts.append((self.tag, data))


def test_the_course_of_a_reward_shows_the_gate_s_own_floor(run_dir: Path) -> None:
    """Shaded is exactly what the gate rejects: more than the noise below the better of the first and the current image."""
    repaired, _, spoiled = read_items(run_dir, linked=True)
    for item in (repaired, spoiled):
        (step, *_), attempt = steps(item, "smoothness"), item.attempts[0]
        for value, verdict in zip(step.tried, attempt["verdicts"], strict=True):
            assert value is not None and step.limit is not None
            assert (value < step.limit) == (verdict["numbers"]["drop:smoothness"] > 0.5)
    assert steps(repaired, "smoothness")[-1].after == repaired.data["best"]["scores"]["smoothness"]
    assert steps(repaired, "area")[-1].after == repaired.data["best"]["critique"]["area"]
    assert steps(repaired, "area")[0].limit is None


def test_a_scatter_names_its_scale() -> None:
    lines = [{"first": {"area": 0.3, "scores": {}}, "final": {"area": area, "scores": {}}} for area in (0.0, 0.1, 0.3)]
    drawn = plots(lines)
    assert drawn is not None and "artifact area, 0 % to 30 %" in drawn.text


def test_a_scatter_counts_what_rose_and_fell() -> None:
    label = dict(Page(scatter([(0.0, 1.0), (2.0, 1.0), (3.0, 3.0), (0.0, 2.0)], "a<b").text).tags[0][1])["aria-label"]
    assert label == "a<b before and after, 4 images: 2 rose, 1 fell"


@pytest.mark.parametrize(
    ("reason", "numbers", "words"),
    [
        ("fault-remains", {"inside_before": 200.0, "inside_after": 180.0}, "the fault shrank by only 10 %; at least 30 % is asked for"),
        ("fault-remains", {"inside_before": 200.0, "inside_after": 210.0}, "the fault did not shrink (200 → 210 px)"),
        ("new-fault", {"outside_before": 5.0, "outside_after": 90.0}, "faults elsewhere grew by 85 px"),
        ("reward-drop", {"drop:hps": 0.2, "drop:other": 0.0}, "hps fell by 0.2000; up to 0.0500 is noise"),
        ("crop-reward-drop", {"crop_drop:hps": 0.3, "drop:hps": 0.2}, "hps of the crop fell by 0.3000; up to 0.1000 is noise"),
        ("more-suspect", {"suspicion": 0.25}, "the detector's probability of a fault rose by 25 %; up to 2.0 % means nothing"),
        ("reward-drop", {"drop:hps": None}, "a preference reward fell by more than its noise"),
        ("my own", {}, "my own"),
    ],
)
def test_a_rejection_in_words(reason: str, numbers: dict[str, float | None], words: str) -> None:
    gate = {"fall": 0.3, "noise": {"hps": 0.05}, "crop_noise": {"hps": 0.1}, "suspicion": 0.02}
    assert why({"reason": reason, "numbers": numbers}, gate) == words


def test_a_missing_picture_is_said(run_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run_dir, broken)
    victim = next(iter(sorted(broken.glob("items/*/first.png"))))
    victim.unlink()
    with pytest.raises(InputError, match="not whole"):
        write_report(broken)
    assert not (broken / ".report.html").exists()


def test_words() -> None:
    assert [percent(x) for x in (0, 0.0004, 0.0123, 0.5, None)] == ["0 %", "< 0.1 %", "1.2 %", "50 %", "–"]
    assert [score(x) for x in (-0.28, 12.345, None)] == ["−0.2800", "12.35", "–"]
    assert [score(x) for x in (0.000132, -0.0000204, 0.0)] == ["0.00013", "−2e−05", "0.0000"]
    assert score(0.5, signed=True) == "+0.5000"
    assert [count(x) for x in (-1e-9, 12.6, None)] == ["0", "13", "–"]
    assert arrow("1", "1") == "1"
    assert arrow("1", "2") == "1 → 2"
