"""Images carry their story: prompts are read as other programs write them, and what is written can be read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import PngImagePlugin

from refine import cli, images, metadata, synthetic
from refine.stilllife.oracle import clean
from refine.stilllife.prompts import DEFAULT_PROMPTS

PROMPT = DEFAULT_PROMPTS[0]
A1111 = f"{PROMPT}\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 3, Size: 176x128, Model: toy"
GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0], "positive": ["9", 0], "negative": ["7", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "toy.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["11", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly", "clip": ["4", 1]}},
    "9": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
    "11": {"class_type": "PrimitiveString", "inputs": {"value": PROMPT}},
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("texts", "prompt"),
    [
        ({"parameters": A1111}, PROMPT),
        ({"parameters": "a cat,\n(sofa:1.2)\nSteps: 5, Seed: 1"}, "a cat, (sofa:1.2)"),
        ({"parameters": "a cat"}, "a cat"),
        ({"parameters": "Steps: 5, Seed: 1"}, None),
        ({"prompt": json.dumps(GRAPH)}, PROMPT),
        ({"prompt": json.dumps({"1": {"inputs": {"positive": ["1", 0]}}})}, None),
        ({"prompt": "a cat", "seed": "7"}, "a cat"),
        ({"prompt": "{a cat"}, None),
        ({"Comment": "made by hand"}, None),
        ({}, None),
    ],
)
def test_the_prompt_is_found_as_each_program_writes_it(texts: Mapping[str, str], prompt: str | None) -> None:
    found = metadata.prompt_in(texts)
    assert found == prompt or (texts.get("prompt") == "{a cat" and found == "{a cat")


def test_the_negative_words_of_a_graph_are_not_its_prompt() -> None:
    graph = {key: node for key, node in GRAPH.items() if key != "11"}
    assert metadata.prompt_in({"prompt": json.dumps(graph)}) != "ugly"


@given(st.recursive(st.none() | st.integers() | st.text(), lambda more: st.lists(more) | st.dictionaries(st.text(), more)))
def test_no_graph_breaks_the_reader(graph: Any) -> None:
    found = metadata.prompt_in({"prompt": json.dumps(graph)})
    assert found is None or isinstance(found, str)


def png(image: PIL.Image.Image, path: str, texts: Mapping[str, str], **more: Any) -> None:
    chunks = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        chunks.add_itxt(key, text)
    image.save(path, pnginfo=chunks, **more)


def damaged() -> PIL.Image.Image:
    image = clean(PROMPT).resize((176, 128))
    image.paste((250, 0, 250), (70, 60, 90, 80))
    return image


def final(folder: str) -> PIL.Image.Image:
    (path,) = Path(folder).glob("items/*/final.png")
    with PIL.Image.open(path) as image:
        image.load()
    return image


def paint(*arguments: str) -> int:
    return cli.main(["run", *arguments, "--preset", "painter", "--set", "generator.skill=1"])


def test_a_drawn_image_tells_how_and_that_a_model_drew_it() -> None:
    assert paint(PROMPT, "--seed", "5", "--out", "a") == 0
    assert paint(PROMPT, "--seed", "5", "--out", "b") == 0
    image = final("a")
    texts: dict[str, str] = image.text  # type: ignore[attr-defined]
    assert metadata.prompt_in(texts) == PROMPT
    settings = texts["parameters"].splitlines()[-1]
    assert "Seed: 5, Size: 128x128" in settings
    assert "refine rounds: 1, refine repairs: 1 of 1" in settings
    story = json.loads(texts["refine"])
    assert (story["prompt"], story["seed"], story["drawn"]) == (PROMPT, 5, True)
    assert [one["kept"] for one in story["rounds"][0]] == [True]
    assert synthetic.source_type(image.info["xmp"].decode()) == synthetic.DRAWN
    assert next(Path("a").glob("items/*/final.png")).read_bytes() == next(Path("b").glob("items/*/final.png")).read_bytes()


def test_a_folder_of_images_brings_its_prompts_and_keeps_what_else_it_carries() -> None:
    Path("in").mkdir()
    image = damaged()
    image.putalpha(200)
    exif = PIL.Image.Exif()
    exif[0x010F] = "A camera"
    png(image, "in/a.png", {"parameters": A1111, "workflow": "{größe}"}, icc_profile=b"a profile", exif=exif.tobytes())
    assert paint("--images", "in", "--out", "out") == 0
    done = final("out")
    texts: dict[str, str] = done.text  # type: ignore[attr-defined]
    assert texts["workflow"] == "{größe}"
    lines = texts["parameters"].splitlines()
    assert lines[:2] == A1111.splitlines()[:2]
    assert lines[2].startswith(A1111.splitlines()[2] + ", refine rounds: 1")
    assert (done.mode, done.info["icc_profile"], done.getexif()[0x010F]) == ("RGBA", b"a profile", "A camera")
    assert synthetic.source_type(done.info["xmp"].decode()) == synthetic.PAINTED_INTO

    Path("again").mkdir()
    next(Path("out").glob("items/*/final.png")).rename("again/a.png")
    assert paint("--images", "again", "--out", "twice") == 0
    later = final("twice")
    assert later.text["parameters"].count("refine rounds") == 1  # type: ignore[attr-defined]
    assert synthetic.source_type(later.info["xmp"].decode()) == synthetic.PAINTED_INTO


def test_an_image_that_is_left_as_it_was_gets_no_mark_and_loses_none() -> None:
    clean(PROMPT).resize((176, 128)).save("a.png")
    assert paint("--images", "a.png", PROMPT, "--out", "out") == 0
    assert "xmp" not in final("out").info


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("first", ["", "\u201c", "\u732b"])
def test_the_user_comment_of_a_jpeg_is_read(order: str, first: str) -> None:
    exif = PIL.Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + (first + A1111).encode("utf-16-be" if order == "big" else "utf-16-le")
    damaged().save("a.jpg", exif=exif.tobytes())
    assert images.prompt_of(Path("a.jpg")) == first + PROMPT


def test_a_text_beside_the_file_comes_before_the_file_s_own(tmp_path: Path) -> None:
    png(damaged(), "a.png", {"parameters": A1111})
    assert images.prompt_of(Path("a.png")) == PROMPT
    Path("a.txt").write_text("a cat")
    assert images.prompt_of(Path("a.png")) == "a cat"


@pytest.mark.parametrize("kind", [synthetic.DRAWN, synthetic.PAINTED_INTO])
def test_a_mark_is_added_to_what_a_packet_says(kind: str) -> None:
    other = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/png"/></rdf:RDF></x:xmpmeta>'
    )
    packet = synthetic.marked(other, kind)
    assert synthetic.source_type(packet) == kind
    assert "image/png" in packet
    assert synthetic.marked(packet, synthetic.PAINTED_INTO) == packet, "a mark that is there stays"
    assert synthetic.source_type(synthetic.marked("<broken", kind)) == kind
    assert synthetic.source_type(synthetic.marked(None, kind)) == kind


def test_a_photograph_that_was_painted_into_is_no_longer_a_photograph() -> None:
    camera = synthetic.marked(None, synthetic.DRAWN).replace("trainedAlgorithmicMedia", "digitalCapture")
    assert synthetic.source_type(camera) == f"{synthetic.TERMS}digitalCapture"
    assert synthetic.source_type(synthetic.marked(camera, synthetic.PAINTED_INTO)) == synthetic.PAINTED_INTO


def test_pixels_and_all_else_survive_a_round_trip() -> None:
    png(damaged(), "a.png", {"parameters": A1111, "prompt": json.dumps(GRAPH)})
    picture = images.read(Path("a.png"))
    images.write(picture.image, Path("b.png"), picture)
    again = images.read(Path("b.png"))
    assert np.array_equal(again.image, picture.image)
    assert again.texts == picture.texts
