"""Prompt files: three formats, and every fault with its line."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from refine import jobs, prompts
from refine.errors import InputError
from refine.prompts import Prompt


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_txt(tmp_path: Path) -> None:
    found = prompts.read(written(tmp_path / "p.txt", "\ufeffa cat\n\n# no\n  a   dog  \n"))
    assert [(prompt.text, prompt.where) for prompt in found] == [("a cat", "line 1"), ("a dog", "line 4")]


def test_csv_with_id_seed_and_commas(tmp_path: Path) -> None:
    found = prompts.read(written(tmp_path / "p.csv", 'id,prompt,seed,x\none,"a cat, asleep",7,\ntwo,a dog,,\n'))
    assert found == [Prompt("a cat, asleep", "one", 7, "line 2"), Prompt("a dog", "two", None, "line 3")]


def test_jsonl_objects_and_strings(tmp_path: Path) -> None:
    found = prompts.read(written(tmp_path / "p.jsonl", '{"prompt": "a cat", "id": 3, "seed": 5}\n"a dog"\n'))
    assert found == [Prompt("a cat", "3", 5, "line 1"), Prompt("a dog", None, None, "line 2")]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("p.csv", "id,text\n1,a\n", "it must name the column 'prompt'"),
        ("p.csv", "prompt,seed\na,x\n", "line 2: seed 'x' is not a whole number"),
        ("p.csv", "prompt\n a \n''\n \n", "line 4: the prompt is empty"),
        ("p.jsonl", '{"prompt": "a"\n', "line 1: not JSON"),
        ("p.jsonl", "[1]\n", "line 1: list; it must be an object"),
        ("p.jsonl", '{"prompt": 3}\n', "line 1: the prompt is 3"),
        ("p.txt", "a cat\na  cat\n", "line 2: prompt 'a cat' is on line 1 already"),
        ("p.csv", "id,prompt\n1,a\n1,b\n", "line 3: id '1' is on line 2 already"),
        ("p.txt", "# nothing\n", "holds no prompt"),
        ("p.xml", "", "ends in .txt, .csv, .jsonl"),
    ],
)
def test_faults_are_told_with_their_line(name: str, text: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        prompts.read(written(tmp_path / name, text))
    assert fault in str(raised.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        prompts.read(written(tmp_path / "p.jsonl", '{"prompt": ""}\n{\n{"prompt": "a", "seed": 1.5}\n'))
    assert all(f"line {number}" in str(raised.value) for number in (1, 2, 3))


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no prompt file"):
        prompts.read(tmp_path / "p.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        prompts.read(tmp_path / "b.txt")


def test_seeds_count_up_unless_a_prompt_has_its_own() -> None:
    work = jobs.plan([Prompt("a"), Prompt("b", seed=9), Prompt("c")], [], 100)
    assert [job.seed for job in work] == [100, 9, 102]


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InputError, match=r"empty \(prompt 1\)"):
        jobs.plan([Prompt(" ", where="prompt 1")], [], 0)


@pytest.mark.parametrize("prompt", [Prompt("caf\udce9"), Prompt("a cat", id="\ud83d")])
def test_a_prompt_that_no_file_could_hold_is_refused(prompt: Prompt) -> None:
    with pytest.raises(InputError, match=r"not UTF-8 text\. Write it in UTF-8"):
        jobs.plan([prompt], [], 0)


def test_identical_jobs_and_bad_seeds_are_refused() -> None:
    with pytest.raises(InputError, match="same prompt, seed and image as x"):
        jobs.plan([Prompt("a", "x", 1), Prompt("a", "y", 1)], [], 0)
    with pytest.raises(InputError, match="seed -1"):
        jobs.plan([Prompt("a")], [], -1)


def image(path: Path, colour: str = "red") -> Path:
    PIL.Image.new("RGB", (40, 24), colour).save(path)
    return path


def test_prompts_meet_images_by_id_by_order_or_one_for_all(tmp_path: Path) -> None:
    files = [image(tmp_path / "a.png"), image(tmp_path / "b.png", "blue")]
    by_id = jobs.plan([Prompt("for b", "b"), Prompt("for a", "a")], files, 0)
    assert [(job.id, job.prompt) for job in by_id] == [("a", "for a"), ("b", "for b")]
    assert [job.prompt for job in jobs.plan([Prompt("x"), Prompt("y")], files, 0)] == ["x", "y"]
    assert [job.prompt for job in jobs.plan([Prompt("x")], files, 0)] == ["x", "x"]


def test_an_image_without_a_prompt_and_a_broken_one_are_told_together(tmp_path: Path) -> None:
    files = [image(tmp_path / "a.png"), tmp_path / "gone.png", image(tmp_path / "b.png", "blue")]
    (tmp_path / "b.txt").write_text("a blue field")
    with pytest.raises(InputError) as raised:
        jobs.plan([], files, 0)
    assert "a.png: no prompt" in str(raised.value)
    assert "no file" in str(raised.value)
    assert "b.png" not in str(raised.value)


def test_the_key_depends_on_prompt_seed_bytes_and_configuration(tmp_path: Path) -> None:
    first, second = image(tmp_path / "a.png"), image(tmp_path / "b.png", "blue")
    one, two = jobs.plan([Prompt("x", seed=1)], [first, second], 0)
    keys = {jobs.key(one, {"batch": 1}), jobs.key(one, {"batch": 2}), jobs.key(two, {"batch": 1})}
    assert len(keys) == 3
    moved = jobs.plan([Prompt("x", seed=1)], [image(tmp_path / "moved.png")], 0)[0]
    assert jobs.key(moved, {"batch": 1}) == jobs.key(one, {"batch": 1})


def test_jobs_survive_their_file() -> None:
    work = jobs.plan([Prompt("a ünïcode"), Prompt("b")], [], 3)
    assert jobs.parse(jobs.dump(work)) == work
