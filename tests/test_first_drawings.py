"""Several first drawings in the files of a run: written, read back, and told apart from repairs."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from refine import display, loop, record, store
from refine.gate import Gate
from refine.jobs import Job
from refine.policy import Policy
from refine.report import write_report
from refine.report.item import read_items
from refine.report.plots import steps
from refine.report.words import outcome_of
from refine.reviser import TemplateReviser
from refine.types import Redraw
from tests.html_pages import Page
from tests.toys import Painter, Smoothness, Spotter, picture

BOXES = [(10, 8, 26, 20), (50, 20, 70, 40)]
POLICY = Policy(draws=3, crop_least=24)


@pytest.mark.parametrize(("clumsy", "boxes"), [(0, BOXES), (1, BOXES), (0, [])])
def test_a_choice_of_drawings_is_kept_told_and_no_repair(tmp_path: Path, clumsy: int, boxes: list[tuple[int, int, int, int]]) -> None:
    target = picture(3)
    models = loop.Models(Painter(target, boxes, clumsy), Spotter(target), (Smoothness(),), TemplateReviser())
    job = Job(0, "one", "a picture", 2)
    [made] = loop.run([job.prompt], [job.seed], models=models, policy=POLICY, gate=Gate(noise={"smoothness": 0.5}))
    run = store.create(tmp_path / "run", {"gate": {"rule": "better", "noise": {"smoothness": 0.5}}}, ["toys"], [job])
    store.save(run, job, made)

    [line] = store.ledger(run.folder)
    assert line["accepted"] + line["rejected"] == len(made.repairs)
    chosen = made.rounds[0].attempts[0].kept
    assert line["drawing"] == [1 if chosen is None else chosen + 2, 3]
    table = Console(width=200, file=StringIO(), record=True)
    table.print(display.closing_table([line], run.folder))
    assert f"drawing {line['drawing'][0]} of 3; " in table.export_text()
    folder = store.item_folder(run.folder, line["key"])
    again = record.read_record(folder)
    choice = again.rounds[0].attempts[0]
    assert choice.action == Redraw("a picture", first=True) and len(choice.candidates) == 2
    assert len(again.repairs) == len(made.repairs) and again.best.seed == made.best.seed

    [item] = read_items(run.folder, linked=False)
    assert item.drawings == (1 if choice.kept is None else 3) and len(item.repairs) == len(made.repairs)
    [shown, *after] = steps(item, "smoothness")
    assert shown.limit is None  # a choice has no floor; what is repaired then has that of the drawing that was chosen
    floor = (made.first if chosen is None else choice.candidates[chosen]).scores["smoothness"] - 0.5
    assert all(one.limit is not None and one.limit >= floor - 1e-9 for one in after)
    assert not after or after[0].limit == pytest.approx(floor)
    words = Page(write_report(run.folder).read_text(encoding="utf-8")).words
    changed = made.best.image.tobytes() != made.first.image.tobytes()
    assert changed == item.changed == ("Before and after" in words) == ("Unchanged" not in words) == ("stays as it was" not in words)
    assert outcome_of(item) == ("accepted" if item.kept else "chosen" if changed else "rejected" if item.repairs else "untouched")
    assert not (changed and "no fault found" in words)
    assert "More first drawings to choose from" in words
    if item.kept:
        assert f"{item.kept} of {len(item.repairs)} repair" in words
    elif choice.kept is not None:
        assert "the cleanest of 3 drawings" in words


def test_doubt_is_written_down(tmp_path: Path) -> None:
    target = picture(3)
    models = loop.Models(Painter(target), Spotter(target), (Smoothness(),), TemplateReviser())
    [made] = loop.run(["x"], [0], models=models, policy=Policy(crop_least=24), gate=Gate())
    first = replace(made.first, critique=replace(made.first.critique, doubt=7.5))
    job = Job(0, "one", "x", 0)
    run = store.create(tmp_path / "run", {}, ["toys"], [job])
    store.save(run, job, replace(made, first=first, best=first))
    [line] = store.ledger(run.folder)
    assert record.read_record(store.item_folder(run.folder, line["key"])).first.critique.doubt == 7.5
