"""The steps behind the page, without the page: drafts are run folders, decisions are recorded, names lead nowhere else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import PIL.Image
import pytest

from refine import cli, record, runner, stages, store
from refine.config import Config
from refine.errors import ConfigError, InputError, UnknownName
from refine.stages import Models
from refine.stilllife.prompts import DEFAULT_PROMPTS
from refine.types import Inpaint
from refine.ui import desk as work
from refine.ui import words
from refine.ui.desk import Desk

PROMPT = DEFAULT_PROMPTS[0]  # the oracle of the preset painter knows the built-in captions


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One desk for all tests: the models are loaded once."""
    return Desk(tmp_path_factory.mktemp("desk"), ["painter"])


def faulty(desk: Desk) -> str:
    """The name of a drawn draft in which the controller found something."""
    for seed in range(20):
        name = work.begin(desk, "painter", PROMPT, None, seed, False)
        if work.first(desk, name).drawn.best.critique.regions:
            return name
    raise AssertionError("the painter drew no fault with twenty seeds")


@pytest.fixture
def name(table: Desk) -> str:
    return faulty(table)


def test_a_draft_waits_for_the_user_and_is_a_run(table: Desk, name: str) -> None:
    with table.draft(name) as draft:
        assert draft.drawn.rounds == ()
    report = work.finish(table, name)
    assert report.is_file()
    assert [line["prompt"] for line in store.ledger(table.folder / name)] == [PROMPT]
    cli.main(["show", str(table.folder / name)])


def test_a_finding_is_repaired_and_outside_keeps_every_byte(table: Desk, name: str) -> None:
    events: list[stages.Event] = []
    outcome = work.repair(table, name, 0, [0], None, "", events.append).drawn
    attempt = outcome.rounds[0].attempts[0]
    assert {event.stage for event in events} == {"repair", "inspect", "score"}
    assert attempt.mask is not None
    before, after = np.asarray(outcome.first.image), np.asarray(attempt.candidates[0].image)
    assert (before[~attempt.mask] == after[~attempt.mask]).all()
    assert (before != after).any()
    assert attempt.kept is not None, "the painter repairs what the oracle finds"
    assert outcome.best.image.tobytes() == attempt.candidates[attempt.kept].image.tobytes()
    assert outcome.evaluations > 0


def test_what_is_written_is_what_is_read(table: Desk, name: str) -> None:
    made = work.repair(table, name, 0, [0], None, "").drawn
    again = work.first(table, name).drawn
    assert record.to_json(replace(made, seconds=0)) == record.to_json(replace(again, seconds=0))


def test_the_user_overrules_the_gate_and_the_record_says_so(table: Desk, name: str) -> None:
    kept = work.repair(table, name, 0, [0], None, "").drawn
    rejected = work.decide(table, name, 1, None).drawn
    assert rejected.best.image.tobytes() == kept.first.image.tobytes()
    attempt = rejected.rounds[0].attempts[0]
    assert attempt.kept is None
    assert attempt.verdicts == kept.rounds[0].attempts[0].verdicts, "the verdicts stay the gate's"
    assert "decided by hand: the old pixels kept; the gate accepted candidate" in attempt.action.note  # type: ignore[union-attr]
    again = work.decide(table, name, 1, 0).drawn
    note = again.rounds[0].attempts[0].action.note  # type: ignore[union-attr]
    assert note.count("decided by hand") == 1, "the last decision stands, the earlier one is gone"
    assert "asked for by hand: finding 1" in note
    assert again.best.image.tobytes() == kept.rounds[0].attempts[0].candidates[0].image.tobytes()
    assert again.stop_reason == "by-hand"
    assert "decided by hand" in work.finish(table, name).read_text(encoding="utf-8")


def test_a_brushed_mask_is_repaired_where_nothing_was_found(table: Desk, name: str) -> None:
    with table.draft(name) as draft:
        width, height = draft.drawn.best.image.size
    mask = np.zeros((height, width), bool)
    mask[5:25, 8:40] = True
    outcome = work.repair(table, name, 0, [], mask, "the floor").drawn
    action = outcome.rounds[0].attempts[0].action
    assert isinstance(action, Inpaint)
    assert action.region.phrase == "the floor"
    assert (action.region.mask == mask).all()
    assert "a mask of the user's own" in action.note


def test_strokes_become_a_mask_of_the_picture(tmp_path: Path) -> None:
    layer = PIL.Image.new("RGBA", (60, 40))
    layer.paste((255, 0, 0, 255), (10, 5, 20, 15))
    mask = work.brushed([layer], (60, 40))
    assert mask is not None
    assert mask.shape == (40, 60)
    assert mask.sum() == 100
    larger = work.brushed([layer], (120, 80))
    assert larger is not None
    assert larger.shape == (80, 120)
    assert work.brushed([PIL.Image.new("RGBA", (60, 40))], (60, 40)) is None


def test_a_second_click_and_another_tab_change_nothing(table: Desk, name: str) -> None:
    work.repair(table, name, 0, [0], None, "")
    for again in (lambda: work.repair(table, name, 0, [0], None, ""), lambda: work.decide(table, name, 0, None)):
        with pytest.raises(InputError, match="another tab"):
            again()
    assert len(work.first(table, name).drawn.rounds) == 1


@pytest.mark.parametrize("chosen", [[], [99], [-1]])
def test_nothing_or_a_wrong_finding_is_said(table: Desk, name: str, chosen: list[int]) -> None:
    with pytest.raises(InputError, match=r"Nothing is marked|no finding"):
        work.repair(table, name, 0, chosen, None, "")


@pytest.mark.parametrize("wrong", ["", "..", "../x", "/etc", "a" * 31, "A" * 32, "0" * 32, "0" * 32 + "\n"])
def test_a_name_leads_nowhere_else(table: Desk, wrong: str) -> None:
    assert not table.has(wrong)
    with pytest.raises(InputError, match="not on the desk"), table.draft(wrong):
        pass


def test_an_upload_is_refined_and_keeps_its_size(table: Desk, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (90, 60), "gray").save(tmp_path / "mine.png")
    name = work.begin(table, "painter", PROMPT, tmp_path / "mine.png", 0, False)
    outcome = work.first(table, name).drawn
    assert outcome.best.image.size == (90, 60)
    assert outcome.evaluations == 0


def test_uploads_that_are_refused(table: Desk, tmp_path: Path) -> None:
    before = set(table.folder.iterdir())
    PIL.Image.new("RGB", (32, 32)).save(tmp_path / "real.gif")
    (tmp_path / "real.gif").rename(tmp_path / "gif.png")
    (tmp_path / "text.png").write_text("<svg onload=alert(1)>")
    PIL.Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    PIL.Image.new("RGB", (32, 32)).save(tmp_path / "silent.png")
    for file, prompt, said in [
        ("gif.png", PROMPT, "not a PNG, JPEG or WebP"),
        ("text.png", PROMPT, "not a PNG, JPEG or WebP"),
        ("bomb.png", PROMPT, "megapixels"),
        ("silent.png", " ", "no prompt"),
    ]:
        with pytest.raises(InputError, match=said) as caught:
            work.begin(table, "painter", prompt, tmp_path / file, 0, False)
        assert str(tmp_path) not in str(caught.value), "folders of the server are nobody's business"
    assert set(table.folder.iterdir()) == before, "nothing is written for a wrong request"


def test_wrong_requests_are_said(table: Desk) -> None:
    with pytest.raises(InputError, match=r"The prompt is empty\. Write"):
        work.begin(table, "painter", "  ", None, 0, False)
    with pytest.raises(InputError, match="limit"):
        work.begin(table, "painter", "x" * 2001, None, 0, False)
    with pytest.raises(UnknownName, match="painter"):
        work.begin(table, "paint", PROMPT, None, 0, False)
    with pytest.raises(ConfigError):
        Desk(table.folder, ["paynter"])


def test_models_are_loaded_once_and_the_loop_may_run_by_itself(tmp_path: Path) -> None:
    loads: list[Config] = []

    def load(config: Config) -> Models:
        loads.append(config)
        return runner.load_models(config)

    desk = Desk(tmp_path, ["painter"], load)
    assert loads == []
    name = faulty(desk)
    with desk.draft(name) as draft:
        seed = draft.job.seed
    alone = work.first(desk, work.begin(desk, "painter", PROMPT, None, seed, True)).drawn
    assert alone.rounds, "the preset's own loop repaired it"
    assert len(loads) == 1


def test_a_reload_while_it_is_drawn_waits_and_draws_once(tmp_path: Path) -> None:
    loading, go = Event(), Event()

    def load(config: Config) -> Models:
        loading.set()
        assert go.wait(60)
        return runner.load_models(config)

    desk = Desk(tmp_path, ["painter"], load)
    name = work.begin(desk, "painter", PROMPT, None, 0, False)
    with ThreadPoolExecutor(2) as pool:
        drawing = pool.submit(work.first, desk, name)
        assert loading.wait(60)
        again = pool.submit(work.first, desk, name)
        assert not again.done()
        go.set()
        shown = [record.to_json(one.result(60).drawn) for one in (drawing, again)]
    assert shown[0] == shown[1]
    assert len((tmp_path / name / store.LEDGER).read_text().splitlines()) == 1, "drawn once"


def test_a_draft_of_another_preset_is_not_worked_on(table: Desk, name: str) -> None:
    other = Desk(table.folder, ["mini"])
    with pytest.raises(InputError, match="another preset"):
        work.repair(other, name, 0, [0], None, "")


def test_what_cannot_be_drawn_leaves_nothing(table: Desk) -> None:
    name = work.begin(table, "painter", "a cat", None, 0, False)
    with pytest.raises(InputError, match="no still life caption"):
        work.first(table, name)
    assert not table.has(name), "a reload must not try it again"
    assert not (table.folder / name).exists()


def test_what_users_write_is_text(table: Desk, name: str) -> None:
    outcome = replace(work.first(table, name).drawn, prompt="<img src=x onerror=alert(1)> a red cube")
    assert "<img" not in words.status(outcome)
    assert "&lt;img" in words.status(outcome)


def test_the_command_needs_its_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["ui"]) == 5
    assert "legion-refine[ui]" in capsys.readouterr().err
