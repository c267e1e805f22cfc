"""The page: what stands where, and which step a click takes. No work is done here (see ``refine.ui.desk``)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from refine.errors import RefineError
from refine.overlay import overlay
from refine.record import FINAL
from refine.stages import Event
from refine.types import Critique, Image, Record
from refine.ui import desk as work
from refine.ui import words
from refine.ui.desk import Desk, Draft

WAITING = 16  # steps that may wait for the models; the next one is told to come back
SUFFIXES = [".png", ".jpg", ".jpeg", ".webp"]
PINK = "#ff2d92"
WELCOME = "<p>Write a prompt, or upload a picture, then press <b>Start</b>.</p>"
THEME = gr.themes.Base(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
CSS = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
MODELS: dict[str, Any] = {"concurrency_id": "models", "concurrency_limit": 1, "trigger_mode": "once", "api_visibility": "private"}
QUICK: dict[str, Any] = {"concurrency_id": "quick", "concurrency_limit": 8, "trigger_mode": "once", "api_visibility": "private"}


def build(desk: Desk) -> gr.Blocks:
    """The page of a desk."""
    with gr.Blocks(title="refine", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        draft = gr.BrowserState("", storage_key="refine-draft")
        seen = gr.State(0)
        gr.HTML("<h1>refine</h1><p>Draw, find what is wrong, repair only that. The gate advises; you decide.</p>", elem_id="head")
        asked = _request(desk)
        state, parts = gr.HTML(WELCOME, elem_id="status"), _workplace()
        shown = [seen, state, *parts.values()]
        steps = _steps(desk)
        page.load(steps["restore"], [draft], shown, show_progress_on=[state], **QUICK | {"trigger_mode": "multiple"})
        wanted = [asked[one] for one in ("preset", "prompt", "upload", "seed", "loop")]
        begun = asked["start"].click(steps["begin"], wanted, [draft], **QUICK)
        begun.success(steps["first"], [draft], shown, show_progress_on=[state], **MODELS)
        target = [draft, seen, parts["found"], parts["brush"], parts["thing"]]
        parts["repair"].click(steps["repair"], target, shown, show_progress_on=[state], **MODELS)
        parts["found"].input(steps["toggle"], [draft, parts["found"]], [parts["overlay"]], show_progress="hidden", **QUICK)
        parts["decide"].click(steps["decide"], [draft, seen, parts["options"]], shown, show_progress_on=[state], **QUICK)
        parts["finish"].click(steps["finish"], [draft], [parts["report"]], show_progress_on=[state], **QUICK)
    page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    return page


def _request(desk: Desk) -> dict[str, Any]:
    """What is asked for at the start."""
    names = list(desk.presets)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3):
            prompt = gr.Textbox(label="Prompt", lines=2, max_length=work.LONGEST_PROMPT, elem_id="prompt")
            with gr.Row():
                preset = gr.Dropdown(names, value=names[0], label="Preset", min_width=140, elem_id="preset")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=100, elem_id="seed")
            loop = gr.Checkbox(False, label="Let the loop repair what it finds, without asking", elem_id="loop")
        with gr.Column(scale=2):
            upload = gr.File(label="Or a picture of yours (PNG, JPEG, WebP)", file_types=SUFFIXES, height=160, elem_id="upload")
            start = gr.Button("Start", variant="primary", elem_id="start")
    return {"prompt": prompt, "preset": preset, "seed": seed, "loop": loop, "upload": upload, "start": start}


def _workplace() -> dict[str, Any]:
    """The picture, its findings, the brush, the choice, the gallery and the downloads; in the order of ``_show``."""
    parts: dict[str, Any] = {}
    with gr.Column(visible=False, elem_id="work") as parts["work"], gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            parts["overlay"] = gr.Image(label="Found", interactive=False, format="png", buttons=["fullscreen"], elem_id="overlay")
            parts["found"] = gr.CheckboxGroup([], label="Findings: shown, and repaired if ticked", elem_id="found")
            parts["why"] = gr.HTML(elem_id="why")
        with gr.Column(min_width=300):
            brush = gr.Brush(colors=[PINK], default_color=PINK, color_mode="fixed")
            parts["brush"] = gr.ImageEditor(
                label="Brush over what else to repair", type="pil", sources=(), transforms=(), brush=brush, layers=False, elem_id="brush"
            )
            parts["thing"] = gr.Textbox(label="What is under the brush? (optional, e.g. left hand)", max_length=200, elem_id="thing")
            parts["repair"] = gr.Button("Repair this region", variant="primary", elem_id="repair")
    with gr.Column(visible=False, elem_id="choice") as parts["choice"]:
        parts["options"] = gr.Radio([], label="The last repair: what to keep", elem_id="options")
        parts["decide"] = gr.Button("Keep this one", elem_id="decide")
    with gr.Column(visible=False, elem_id="story") as parts["story"]:
        parts["gallery"] = gr.Gallery(
            label="Rounds", columns=4, fit_columns=False, height="auto", format="png", interactive=False, elem_id="gallery"
        )
        with gr.Row():
            parts["image"] = gr.DownloadButton("Picture", elem_id="image")
            parts["record"] = gr.DownloadButton("Record", elem_id="record")
            parts["finish"] = gr.Button("Write the report", elem_id="finish")
            parts["report"] = gr.DownloadButton("Report", visible=False, elem_id="report")
    return parts


def _steps(desk: Desk) -> dict[str, Callable[..., Any]]:
    """What each event calls; a fault that the user can mend is a toast."""

    @_told
    def begin(preset: str, prompt: str, upload: str | None, seed: float | None, loop: bool) -> str:
        return work.begin(desk, preset, prompt, Path(upload) if upload else None, int(seed or 0), loop)

    @_told
    def first(name: str, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008  (how Gradio is asked for it)
        return _show(work.first(desk, name, _observer(progress)))

    @_told
    def restore(name: str, progress: gr.Progress = gr.Progress()) -> list[Any] | Any:  # noqa: B008
        if not name or not desk.has(name):
            return gr.skip()
        return _show(work.first(desk, name, _observer(progress)))

    @_told
    def repair(name: str, seen: int, found: list[int], drawn: Any, thing: str, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        layers: Sequence[Image] = drawn["layers"] if drawn else ()
        with desk.draft(name) as draft:
            size = draft.drawn.best.image.size
        return _show(work.repair(desk, name, seen, found, work.brushed(layers, size), thing, _observer(progress)))

    @_told
    def toggle(name: str, found: list[int]) -> Image:
        with desk.draft(name) as draft:
            return marked(draft.drawn, found)

    @_told
    def decide(name: str, seen: int, option: int | None) -> list[Any]:
        if option is None:
            raise gr.Error("Choose a candidate or the old pixels first.", print_exception=False)
        return _show(work.decide(desk, name, seen, None if option < 0 else option))

    @_told
    def finish(name: str) -> Any:
        return gr.update(value=str(work.finish(desk, name)), visible=True)

    return {"begin": begin, "first": first, "restore": restore, "repair": repair, "toggle": toggle, "decide": decide, "finish": finish}


def _told(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step, its RefineError a toast of plain text; a bug goes to the log, and the toast says only that."""

    @wraps(step)
    def safe(*values: Any) -> Any:
        try:
            return step(*values)
        except gr.Error:
            raise
        except RefineError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from None
        except Exception:
            logging.getLogger(__name__).exception("the step %s failed", step.__name__)
            raise gr.Error("Something broke. The terminal that runs refine ui says more.", print_exception=False) from None

    return safe


def _observer(progress: gr.Progress) -> Callable[[Event], None]:
    """The stages of the loop on the page's bar."""

    def observe(event: Event) -> None:
        if event.total:
            progress((event.done, event.total), desc=words.step(event), unit="pictures")

    return observe


def marked(outcome: Record, found: Sequence[int]) -> Image:
    """The best image, the ticked findings over it."""
    critique = outcome.best.critique
    ticked = tuple(one for index, one in enumerate(critique.regions) if index in found)
    return overlay(outcome.best.image, Critique(critique.size, ticked))


def _show(draft: Draft) -> list[Any]:
    """Everything of a draft, in the order of the page's outputs."""
    outcome = draft.drawn
    found = [index for _, index in words.findings(outcome)]
    best = outcome.best.image
    shown = {
        "work": gr.update(visible=True),
        "overlay": marked(outcome, found),
        "found": gr.update(choices=words.findings(outcome), value=found),
        "why": words.explained(outcome),
        "brush": {"background": best, "layers": [], "composite": best},
        "thing": "",
        "repair": gr.update(),
        "choice": gr.update(visible=bool(outcome.rounds)),
        "options": gr.update(choices=words.options(outcome), value=words.chosen(outcome)),
        "decide": gr.update(),
        "story": gr.update(visible=True),
        "gallery": words.pictures(outcome),
        "image": str(draft.item / FINAL),
        "record": str(draft.item / "record.json"),
        "finish": gr.update(),
        "report": gr.update(visible=False),
    }
    return [len(outcome.rounds), words.status(outcome), *shown.values()]
