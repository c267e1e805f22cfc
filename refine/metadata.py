"""The words that image files carry: the prompt they were drawn from, as the common programs write it, and refine's own story.

AUTOMATIC1111   text ``parameters``: the prompt, then ``Negative prompt: ...``, then ``Steps: 20, Sampler: ..., Seed: ...`` as last line;
                in JPEG and WebP the same text is the EXIF user comment
ComfyUI         text ``prompt``: the graph as JSON; the words are in the node that a sampler's ``positive`` input leads to
diffusers       scripts write the arguments of the call as texts of their own: ``prompt``, ``negative_prompt``, ``seed``, ...
refine          ``parameters`` as the first, with refine's settings at its end, and ``refine``: the story as JSON
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from refine.record import numbers
from refine.types import Record
from refine.versions import versions

PARAMETERS, PROMPT, STORY = "parameters", "prompt", "refine"
NEGATIVE = "Negative prompt:"
SETTING = re.compile(r"(?:^|, )([A-Za-z][\w ]*): [^,]+")
FEWEST = 3  # settings that make a line one of settings, as AUTOMATIC1111 has it
WORDS = ("text", "text_g", "t5xxl", "clip_l", "text_l", "prompt", "string", "value")  # inputs of nodes that hold or pass on the prompt


def prompt_in(texts: Mapping[str, str]) -> str | None:
    """The prompt among an image's texts, or None."""
    if found := _before_settings(texts.get(PARAMETERS, "")):
        return found
    plain = texts.get(PROMPT, "").strip()
    graph = _json(plain)
    return _flat(_in_graph(graph)) if isinstance(graph, dict) else _flat(plain)


def _before_settings(text: str) -> str | None:
    """The prompt of an AUTOMATIC1111 text: what stands before its negative prompt and settings."""
    lines = text.strip().split("\n")
    if _is_settings(lines[-1]):
        lines.pop()
    prompt: list[str] = []
    for line in lines:
        if line.strip().startswith(NEGATIVE):
            break
        prompt.append(line)
    return _flat(" ".join(prompt))


def _is_settings(line: str) -> bool:
    return line.strip().startswith("Steps: ") or len(SETTING.findall(line.strip())) >= FEWEST


def _flat(text: str | None) -> str | None:
    return " ".join(text.split()) or None if text else None


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text.startswith("{") else None
    except (ValueError, RecursionError):
        return None


def _in_graph(graph: Mapping[str, Any]) -> str | None:
    """The words that the ``positive`` input of the first sampler in a ComfyUI graph leads to."""
    nodes = {key: node["inputs"] for key, node in graph.items() if isinstance(node, dict) and isinstance(node.get("inputs"), dict)}
    starts = [inputs["positive"] for inputs in nodes.values() if _is_link(inputs.get("positive"))]
    return next((words for start in starts if (words := _follow(start[0], nodes, set()))), None)


def _follow(key: Any, nodes: Mapping[str, Mapping[str, Any]], seen: set[str]) -> str | None:
    """Words in a node, or behind its links (a conditioning passes through other nodes before it is sampled)."""
    if str(key) in seen or str(key) not in nodes:
        return None
    seen.add(str(key))
    inputs = nodes[str(key)]
    values = [inputs[name] for name in WORDS if name in inputs]
    if written := next((value for value in values if isinstance(value, str) and value.strip()), None):
        return written
    links = [value for value in (*values, inputs.get("positive"), *inputs.values()) if _is_link(value)]
    return next((words for link in links if (words := _follow(link[0], nodes, seen))), None)


def _is_link(value: Any) -> bool:
    """A link of a ComfyUI graph: [node, output]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int) and isinstance(value[1], int)


def texts_for(record: Record, generator: Mapping[str, Any], drawn: bool, before: Mapping[str, str]) -> dict[str, str]:
    """What a final image says of itself: the texts it came with, ``parameters`` and the story.

    generator: the generator's node of the configuration. drawn: the image began here, from ``record.seed``. Holds no time and no path,
    so that equal images have equal files.
    """
    attempts = record.repairs
    kept = sum(attempt.kept is not None for attempt in attempts)
    own = {"refine rounds": len(record.rounds), "refine repairs": f"{kept} of {len(attempts)}", "refine": versions()["refine"]}
    story = {
        "prompt": record.prompt,
        "seed": record.seed,
        "drawn": drawn,
        "stop_reason": record.stop_reason,
        "scores": {"first": numbers(record.first.scores), "final": numbers(record.best.scores)},
        "rounds": [[_attempt(attempt) for attempt in turn.attempts] for turn in record.rounds],
        "versions": versions(),
    }
    settings = _drawing(record, generator) | own if drawn else own
    return dict(before) | {
        PARAMETERS: _parameters(record.prompt, settings, "" if drawn else before.get(PARAMETERS, "")),
        STORY: json.dumps(story, ensure_ascii=False, allow_nan=False),
    }


def _drawing(record: Record, generator: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the first draw under AUTOMATIC1111's names; what the configuration leaves to the model is left out."""
    width, height = record.first.image.size
    known = {"Steps": generator.get("steps"), "Sampler": generator.get("sampler"), "CFG scale": generator.get("guidance_scale")}
    known |= {"Seed": record.seed, "Size": f"{width}x{height}", "Model": _name(generator.get("source"))}
    return {name: value for name, value in known.items() if value is not None}


def _name(source: Any) -> str | None:
    """A model's name without the folders it lies in."""
    return re.split(r"[\\/]", str(source).rstrip("\\/"))[-1].replace(",", " ") if source else None


def _parameters(prompt: str, settings: Mapping[str, Any], before: str) -> str:
    """AUTOMATIC1111's text; of an image that came with one, that text with refine's settings at its end."""
    said = ", ".join(f"{name}: {value}" for name, value in settings.items())
    lines = before.strip().split("\n")
    if before and _is_settings(lines[-1]):
        former = re.sub(r"(, )?refine( \w+)?: [^,]*", "", lines[-1].strip())  # of an earlier refinement
        return "\n".join([*lines[:-1], f"{former}, {said}" if former else said])
    return f"{before.strip() or prompt}\n{said}"


def _attempt(attempt: Any) -> dict[str, Any]:
    action = attempt.action
    region = getattr(action, "region", None)
    kept = None if attempt.kept is None else attempt.candidates[attempt.kept]
    return {
        "action": "redraw" if region is None else "inpaint",
        "fault": region.phrase if region else None,
        "prompt": action.prompt,
        "seed": kept.seed if kept else None,
        "strength": kept.strength if kept else None,
        "kept": kept is not None,
        "reason": attempt.verdicts[attempt.kept or 0].reason if attempt.verdicts else None,
    }
