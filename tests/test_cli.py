"""The command line end to end, on the painter: what is written, what is said, and what happens when something is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from refine import cli, store
from refine.commands.folders import fresh
from refine.display import change
from refine.errors import RefineError
from refine.stilllife.oracle import Oracle, clean, compare
from refine.stilllife.prompts import DEFAULT_PROMPTS
from refine.types import Critique, Image

HERE = __name__
ROOT = Path(__file__).parent.parent
FIRST, SECOND = DEFAULT_PROMPTS[:2]
STOP_AFTER: list[int] = []


class Interrupted:
    """The oracle, until Ctrl-C comes: in the call whose number ``STOP_AFTER`` counts down to."""

    def __init__(self) -> None:
        self._oracle = Oracle()

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        if STOP_AFTER:
            STOP_AFTER[0] -= 1
            if STOP_AFTER[0] < 0:
                raise KeyboardInterrupt
        return self._oracle.inspect(images)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def refine(*arguments: str) -> int:
    return cli.main([str(argument) for argument in arguments])


def paint(*arguments: str) -> int:
    return refine("run", *arguments, "--preset", "painter")


def stories(folder: Path) -> dict[str, object]:
    """Every record of a run without its times, and every picture's bytes."""
    texts = {path: json.loads(path.read_text(encoding="utf-8")) | {"seconds": 0} for path in folder.glob("items/*/record.json")}
    pictures = {path: path.read_bytes() for path in folder.glob("items/**/*.png")}
    return {path.relative_to(folder).as_posix(): value for path, value in (texts | pictures).items()}


def python(*lines: str) -> str:
    """What a fresh interpreter prints for these lines."""
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_oracle_of_painter_knows_the_prompts_of_the_run(elsewhere: Path) -> None:
    prompt = "a large red matte cube on a wood floor, light from the left"  # none of the built-in ones
    assert paint(prompt, "--out", "own", "--set", "budget.rounds=6", "--set", "policy.patience=6") == 0
    truth, made = clean(prompt), next(elsewhere.glob("own/items/*/final.png"))
    assert compare(PIL.Image.open(made), truth).regions == ()


def test_help_teaches_without_torch() -> None:
    heavy = "{'torch', 'numpy', 'rich'}"
    out = python("import sys, refine.cli", "try: refine.cli.main(['run', '--help'])", f"finally: print(set(sys.modules) & {heavy})")
    assert "--set budget.rounds=4" in out
    assert out.endswith("set()\n")


def test_help_names_every_exit_code() -> None:
    told = {int(code) for code in re.findall(r"\b\d+\b", cli.EPILOG.split("exit codes:")[1])}
    assert told == {0, cli.INTERRUPTED, RefineError.exit_code, *(one.exit_code for one in RefineError.__subclasses__())}


def test_the_package_imports_quickly() -> None:
    out = python(
        "import time; t = time.process_time()",
        "import refine; print(time.process_time() - t)",
        "import refine.cli",
        "print(time.process_time() - t)",
    )
    package, command = map(float, out.split())
    assert package < 0.3
    assert command < 1.0


def test_python_m_refine_answers() -> None:
    done = subprocess.run([sys.executable, "-m", "refine", "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refine ")


def test_the_built_in_prompts_are_drawn_and_repaired(capsys: pytest.CaptureFixture[str]) -> None:
    assert paint() == 0
    (folder,) = Path("runs").iterdir()
    lines = store.ledger(folder)
    assert [line["prompt"] for line in lines] == list(DEFAULT_PROMPTS)
    assert all(line["final"]["area"] <= line["first"]["area"] for line in lines)
    written = {"run.yaml", "jobs.jsonl", "ledger.jsonl", "scores.csv", "rewards.json", "report.html", "items"}
    assert written == {path.name for path in folder.iterdir()}
    said = capsys.readouterr()
    assert f"report: {folder / 'report.html'}" in said.out
    assert all(f"items/{line['key']}" in said.out for line in lines)
    assert "round 1 repair" in said.err


def test_a_narrow_terminal_cuts_no_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert paint(FIRST, "--out", "a") == 0
    (line,) = store.ledger(Path("a"))
    cells = [row.split("│")[3].strip() for row in capsys.readouterr().out.splitlines() if row.startswith("│")]
    assert "".join(cells) == change(*(line[turn]["scores"]["likeness"] for turn in ("first", "final"))).replace(" ", "")


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert paint(FIRST, "--out", name, "--seed", seed) == 0
    assert stories(Path("a")) == stories(Path("b"))
    assert stories(Path("a")).keys() != stories(Path("c")).keys()


def test_an_interrupted_run_resumes_to_what_an_unbroken_one_gives(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (FIRST, SECOND, "--set", "batch=1", "--set", f"controller={HERE}:Interrupted")
    assert paint(*arguments, "--out", "whole") == 0
    STOP_AFTER.append(3)
    try:
        assert paint(*arguments, "--out", "broken") == cli.INTERRUPTED
    finally:
        STOP_AFTER.clear()
    assert "refine run --out broken --resume" in capsys.readouterr().err
    assert len(store.ledger(Path("broken"))) == 1
    assert refine("show", "broken") == 0
    assert "1 image not finished" in capsys.readouterr().out
    assert refine("run", "--out", "broken", "--resume") == 0
    assert stories(Path("broken")) == stories(Path("whole"))


def test_resume_skips_what_is_finished_and_refuses_another_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert paint(FIRST) == 0
    (folder,) = Path("runs").iterdir()
    before = (folder / store.LEDGER).read_bytes()
    assert refine("run", "--resume") == 0
    assert "loading models" not in capsys.readouterr().err.split("finished 0000")[1]
    assert (folder / store.LEDGER).read_bytes() == before
    assert paint("--resume", "--set", "budget.rounds=9") == 2
    error = capsys.readouterr().err
    assert "budget.rounds: None → 9" in error
    assert "has a fault" in error, "the advice is no second fault"


def test_resume_takes_the_presets_that_are_not_named_again_from_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert paint(FIRST, "--out", "a", "--set", "budget.rounds=1", "--set", "policy.patience=3") == 0
    assert refine("run", "--out", "a", "--resume", "--set", "budget.rounds=1") == 0
    capsys.readouterr()
    assert refine("run", "--out", "a", "--resume", "--set", "budget.rounds=2") == 2
    error = capsys.readouterr().err
    assert "budget.rounds: 1 → 2" in error
    assert error.count("→") == 1, "only what differs"


def test_resume_can_add_prompts() -> None:
    assert paint(FIRST, "--out", "a") == 0
    assert refine("run", FIRST, SECOND, "--out", "a", "--resume") == 0
    assert [line["prompt"] for line in store.ledger(Path("a"))] == [FIRST, SECOND]


def test_a_resumed_run_keeps_its_seed_and_its_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert paint(FIRST, "--out", "a", "--seed", "7") == 0
    before = Path("a/jobs.jsonl").read_text()
    for again in ((), ("--seed", "7"), (FIRST,), (FIRST, "--seed", "7")):
        assert refine("run", *again, "--out", "a", "--resume") == 0
        assert Path("a/jobs.jsonl").read_text() == before
    assert len(store.ledger(Path("a"))) == 1
    capsys.readouterr()
    assert refine("run", "--seed", "8", "--out", "a", "--resume") == 2
    assert "--seed is 8, and a was begun with 7" in capsys.readouterr().err
    assert Path("a/jobs.jsonl").read_text() == before


def test_images_are_refined_and_keep_size_and_alpha() -> None:
    image = clean(FIRST).resize((176, 128))
    image.paste((250, 0, 250), (70, 60, 90, 80))
    image.putalpha(200)
    Path("in").mkdir()
    image.save("in/a.png")
    Path("in/a.txt").write_text(FIRST)
    assert paint("--images", "in", "--out", "out", "--set", "generator.skill=1") == 0
    (item,) = Path("out/items").iterdir()
    with PIL.Image.open(item / "final.png") as final:
        assert (final.size, final.mode) == (image.size, "RGBA")
        assert np.asarray(final)[0, 0].tolist() == np.asarray(image)[0, 0].tolist()
    (line,) = store.ledger(Path("out"))
    assert line["id"] == "a"
    assert line["final"]["area"] < line["first"]["area"]


def test_a_prompt_beyond_the_encoder_s_budget_is_said_not_silently_cut(capsys: pytest.CaptureFixture[str]) -> None:
    words, told = f"generator.words={len(FIRST.split())}", f"controller.prompts={json.dumps([FIRST])}"
    assert paint(f"{FIRST} and a teapot", "--set", words, "--set", told, "--set", "rewards.likeness=null") == 0
    assert "does not read its end: 'and a teapot'" in capsys.readouterr().err
    (record,) = Path("runs").glob("*/items/*/record.json")
    assert "teapot" in json.loads(record.read_text())["notes"][0]


def test_a_prompt_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.jsonl").write_text(json.dumps({"prompt": FIRST, "id": "[bold]\x1b[31mx"}))
    assert paint("--prompts", "p.jsonl") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[bold]" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "a cat", "--preset", "nimi"], 2, "Did you mean 'mini'?"),
        (["run", "--preset", "painter", "--set", "budget.round=1"], 2, "Did you mean 'budget.rounds'?"),
        (["run", "", "--preset", "painter"], 2, "The prompt is empty (prompt 1)"),
        (["run", "a cat", "--preset", "painter"], 2, "is no still life caption"),
        (["run", "--images", "gone.png", "--preset", "painter"], 2, "There is no file gone.png"),
        (["run", "--prompts", "gone.csv", "--preset", "painter"], 2, "There is no prompt file gone.csv"),
        (["run", "--resume"], 2, "There is no run in"),
        (["run", "--resume", "--out", "gone"], 2, "gone is not the folder of a run"),
        (["run", "--preset", "painter", "--out", "/proc/refine"], 3, "Cannot write to /proc/refine"),
        (["run", "--seed", "-1", "--preset", "painter"], 2, "seed -1"),
        (["inspect", "gone.png", "--preset", "painter"], 2, "There is no file gone.png"),
        (["parity", "--images", "gone.png", "--preset", "painter"], 2, "has an official backend (likeness). Give another --preset"),
        (["presets", "minni"], 2, "Did you mean 'mini'?"),
        (["show"], 2, "There is no run in"),
        (["show", "gone"], 2, "gone is not the folder of a run"),
    ],
)
def test_what_a_user_can_mend_is_one_message(arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refine(*arguments) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_file_among_the_prompts_is_no_prompt(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png", "p.txt"):
        clean(FIRST).save(name) if name.endswith(".png") else Path(name).write_text(FIRST)
    for words, said in ((["--images", "a.png", "b.png"], "--images FOLDER"), (["b.png"], "--images"), (["p.txt"], "--prompts p.txt")):
        assert paint(*words, "--out", "out") == 2
        assert said in capsys.readouterr().err
    assert not Path("out").exists()
    assert paint("x" * 5000 + ".png") == 2, "a text that is too long for a file's name is a prompt"
    assert "is no still life caption" in capsys.readouterr().err


def test_no_two_runs_get_one_folder(elsewhere: Path) -> None:
    made = [fresh(elsewhere / "runs") for _ in range(4)]  # within one second, before any of them has written a file
    assert len(set(made)) == 4
    assert all(not any(folder.iterdir()) for folder in made)


def test_a_run_that_is_refused_leaves_no_folder(elsewhere: Path) -> None:
    for wrong in (["run", ""], ["inspect", "gone.png"], ["bench", "--n", "0"], ["eval", "controller"]):
        assert refine(*wrong) == 2
    assert not list(elsewhere.iterdir())


def test_a_command_without_resume_is_not_told_to_resume(capsys: pytest.CaptureFixture[str]) -> None:
    clean(FIRST).save("a.png")
    assert refine("inspect", "a.png", "--preset", "painter", "--out", "/proc/refine") == 3
    error = capsys.readouterr().err
    assert "Cannot write to /proc/refine" in error and "choose another --out" in error
    assert "--resume" not in error


def test_an_out_that_exists_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/mine").write_text("mine")
    assert paint("--out", "out") == 3
    assert "exists already" in capsys.readouterr().err
    assert Path("out/mine").read_text() == "mine"


def test_inspect_writes_text_masks_overlay_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    image = clean(FIRST)
    image.paste((250, 0, 250), (20, 20, 40, 30))
    image.save("a.png")
    assert refine("inspect", "a.png", "--preset", "painter", "--out", "found") == 0
    assert "a.png: 1 region," in capsys.readouterr().out
    data = json.loads(Path("found/000-a/critique.json").read_text())
    (region,) = data["critique"]["regions"]
    assert region["box"] == [20, 20, 40, 30]
    assert region["mask"]["size"] == [128, 128]
    assert Path("found/000-a/overlay.png").exists()
    assert Path("found/000-a/masks/region-0.png").exists()
    assert refine("inspect", "a.png", "--preset", "painter", "--out", "found") == 3


def test_an_interrupted_inspection_says_what_it_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        clean(FIRST).save(name)
    STOP_AFTER.append(1)
    try:
        code = refine("inspect", "a.png", "b.png", "--preset", "painter", "--set", f"controller={HERE}:Interrupted", "--out", "found")
    finally:
        STOP_AFTER.clear()
    assert code == cli.INTERRUPTED
    assert Path("found/000-a/critique.json").exists()
    error = capsys.readouterr().err
    assert "is in found" in error
    assert "Nothing was written" not in error


def test_presets_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert refine("presets") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("mini", "sdxl", "flux", "blind"))
    assert refine("presets", "flux") == 0
    assert "black-forest-labs/FLUX.1-dev" in capsys.readouterr().out


def test_sigint_ends_a_real_process_with_whole_items(elsewhere: Path) -> None:
    prompts = "".join(json.dumps({"prompt": FIRST, "seed": seed}) + "\n" for seed in range(500))
    (elsewhere / "p.jsonl").write_text(prompts)
    command = [sys.executable, "-m", "refine", "run", "--preset", "painter", "--prompts", "p.jsonl", "--out", "out", "--set", "batch=1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        cwd=elsewhere,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it, and so would the child
    )
    deadline = time.monotonic() + 300
    while not store.ledger(elsewhere / "out") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == cli.INTERRUPTED
    assert "Go on with: refine run --out out --resume" in error
    assert "Traceback" not in error
    keys = {line["key"] for line in store.ledger(elsewhere / "out")}
    assert keys
    assert all((elsewhere / "out/items" / key / "record.json").exists() for key in keys)
    assert not list((elsewhere / "out/items").glob(".*"))
