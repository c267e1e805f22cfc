"""Pipelines around the parts of another: the same objects, another task.

diffusers' own ``SomePipeline.from_pipe`` casts the shared weights to float32, and its Auto classes know few families. A view is built by
the class's constructor: nothing is moved, cast or hooked, and the scheduler, which holds state, is a copy.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import diffusers

from refine.errors import ConfigError
from refine.generators.families import Family
from refine.generators.quiet import quiet
from refine.generators.shapes import denoiser, parameters

NEEDS_PICTURE = ("image", "control_image")


def drawer(pipe: Any, family: Family, extra: Mapping[str, Any]) -> Any:
    """The view that draws from text; None where the model can only fill.

    The class that was given stays where it draws from text alone, or where ``extra`` holds the picture that it is steered by (ControlNet).
    """
    if not family.draw or is_filler(pipe):
        return None
    own = _pictures(type(pipe))
    steered = "controlnet" in pipe.components and bool(own) and all(name in extra for name in own)
    name = type(pipe).__name__
    keep = steered or (not own and "Img2Img" not in name and "Inpaint" not in name)
    return view(pipe, type(pipe) if keep else _class(family.draw))


def painter(pipe: Any, family: Family) -> Any:
    """The view that repaints."""
    return view(pipe, _class(family.paint))


def is_filler(pipe: Any) -> bool:
    """True where the denoiser reads a mask and a masked picture beside the latents, so that it can do nothing else but fill."""
    network, vae = denoiser(pipe), pipe.components.get("vae")
    return vae is not None and bool(network.config.get("in_channels") == 2 * vae.config.get("latent_channels", 0) + 1)


def view(pipe: Any, kind: Any) -> Any:
    """A pipeline of class ``kind`` around the parts of ``pipe``. Raises ConfigError where a part is missing."""
    scheduler = copy.deepcopy(pipe.scheduler)
    given = {**pipe.config, **pipe.components, "scheduler": scheduler}
    if hasattr(pipe, "watermark"):  # an argument that no configuration keeps
        given["add_watermarker"] = pipe.watermark is not None
    wanted = [one for name, one in inspect.signature(kind.__init__).parameters.items() if name != "self"]
    missing = [one.name for one in wanted if one.name not in given and one.default is inspect.Parameter.empty]
    if missing:
        raise ConfigError(f"A {kind.__name__} cannot be made from a {type(pipe).__name__}: it has no {', '.join(missing)}.")
    with quiet():
        made = kind(**{one.name: given[one.name] for one in wanted if one.name in given})
    made.set_progress_bar_config(disable=True)
    return made


def known(view: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the pipeline's call has a parameter for."""
    names = parameters(view)
    return {name: value for name, value in arguments.items() if name in names}


def _class(name: str) -> Any:
    found = getattr(diffusers, name, None)
    if found is None:
        raise ConfigError(f"The installed diffusers {diffusers.__version__} has no {name}. Upgrade it: pip install -U diffusers")
    return found


def _pictures(kind: Any) -> list[str]:
    """Pictures that a call of this class cannot do without; an edit model's is optional and comes after, or is, its first argument."""
    return [name for name in NEEDS_PICTURE if name in inspect.signature(kind.__call__).parameters and not _optional(kind)]


def _optional(kind: Any) -> bool:
    """Kontext and FLUX.2 draw from text where no picture is given."""
    return kind.__name__ in ("FluxKontextPipeline", "Flux2Pipeline", "Flux2KleinPipeline")
