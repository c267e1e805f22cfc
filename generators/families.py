"""One row per family of diffusers: which pipelines draw and repaint, and what their arguments mean.

A pipeline that is given belongs to the family whose name its class name carries (``StableDiffusionXLControlNetPipeline`` to SDXL). Families
that are not in the table are looked up in diffusers' own Auto maps. Classes are kept by name, so that a row whose class the installed
diffusers lacks costs nothing.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from diffusers.pipelines import auto_pipeline as maps

from refine.errors import ConfigError

# How a family repaints:
#   inpaint  a masked pipeline of diffusers; cells outside the mask follow the picture at every step
#   blend    its text-to-image pipeline, which refine holds to the picture at every step (see refine.generators.blend)
#   edit     no mask: it paints the whole crop anew after looking at it, and pasting back inside the mask is all that protects the rest
Way = Literal["inpaint", "blend", "edit"]

# What the number that steers towards the prompt is:
#   cfg        guidance_scale extrapolates between a conditional and an unconditional evaluation: two per step
#   distilled  guidance_scale is an input of the network, one evaluation per step; true_cfg_scale above 1 brings the second one back
#   true_cfg   true_cfg_scale is what guidance_scale is for cfg
Guidance = Literal["cfg", "distilled", "true_cfg"]

SIZE_AS_ASKED: Mapping[str, Any] = {"use_resolution_binning": False, "clean_caption": False}


@dataclass(frozen=True, slots=True)
class Family:
    """What refine knows of a family.

    prefix: of its class names. draw, paint: pipeline classes; no ``draw``: it draws by filling a blank picture. native: side in pixels it
    was trained at, where its parts do not say. steps, scale: what its authors use, ``paint_scale`` where repainting differs. guided_above:
    the scale above which the unconditional half is evaluated. cells: latent cells per side that a mask acts on at once. least_grid: what
    its call wants sides to be multiples of, whatever the VAE. batched: False where
    a call takes one picture only. fixed: arguments that every call gets. soft: latents are (B, C, h, w), so that refine can blend them.
    """

    name: str
    prefix: str
    draw: str
    paint: str
    way: Way = "inpaint"
    native: int = 1024
    guidance: Guidance = "cfg"
    scale: float = 5.0
    paint_scale: float | None = None
    guided_above: float = 1.0
    negative: bool = True
    steps: int = 28
    strength: float = 0.6
    cells: int = 1
    least_grid: int = 1
    batched: bool = True
    soft: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)


SD = "StableDiffusion"
TABLE: tuple[Family, ...] = (
    Family("sd", SD, f"{SD}Pipeline", f"{SD}InpaintPipeline", native=512, scale=7.5, steps=50, strength=0.75, soft=True),
    Family("sdxl", f"{SD}XL", f"{SD}XLPipeline", f"{SD}XLInpaintPipeline", steps=50, strength=0.75, soft=True),
    Family("sd3", f"{SD}3", f"{SD}3Pipeline", f"{SD}3InpaintPipeline", scale=7.0, soft=True),
    Family("flux", "Flux", "FluxPipeline", "FluxInpaintPipeline", guidance="distilled", scale=3.5),
    Family("flux-fill", "FluxFill", "", "FluxFillPipeline", guidance="distilled", scale=30.0, negative=False, steps=50, strength=1.0),
    Family(
        "flux-kontext", "FluxKontext", "FluxKontextPipeline", "FluxKontextInpaintPipeline",
        guidance="distilled", scale=3.5, strength=1.0, fixed={"_auto_resize": False},
    ),
    Family("flux2", "Flux2", "Flux2Pipeline", "Flux2Pipeline", way="edit", guidance="distilled", scale=4.0, steps=50, negative=False,
           strength=1.0, batched=False),
    Family("flux2-klein", "Flux2Klein", "Flux2KleinPipeline", "Flux2KleinInpaintPipeline", scale=4.0, steps=50, negative=False,
           strength=0.8, cells=2),
    # diffusers 0.42.1 has a ChromaInpaintPipeline, but every call of it asks its transformer for a setting that no Chroma has, and fails.
    Family("chroma", "Chroma", "ChromaPipeline", "ChromaImg2ImgPipeline", way="edit", steps=35),
    Family("qwen-image", "QwenImage", "QwenImagePipeline", "QwenImageInpaintPipeline", guidance="true_cfg", scale=4.0, steps=50),
    Family(
        "qwen-image-edit", "QwenImageEdit", "QwenImagePipeline", "QwenImageEditInpaintPipeline",
        guidance="true_cfg", scale=4.0, steps=50, batched=False,
    ),
    Family("z-image", "ZImage", "ZImagePipeline", "ZImageInpaintPipeline", steps=50, strength=1.0, guided_above=0.0),
    Family("pixart-alpha", "PixArtAlpha", "PixArtAlphaPipeline", "PixArtAlphaPipeline", way="blend", scale=4.5, steps=20, soft=True,
           fixed=SIZE_AS_ASKED),
    Family("pixart-sigma", "PixArtSigma", "PixArtSigmaPipeline", "PixArtSigmaPipeline", way="blend", scale=4.5, steps=20, soft=True,
           fixed=SIZE_AS_ASKED),
    Family("sana", "Sana", "SanaPipeline", "SanaPipeline", way="blend", scale=4.5, steps=20, soft=True, least_grid=32,
           fixed=SIZE_AS_ASKED),
)  # fmt: skip

# What may stand between a family's prefix and the word Pipeline. "Advanced" ends, such as InstructPix2Pix or Upscale, are other models, and
# so is FLUX's Control (Canny, Depth): its transformer reads a control picture beside the latents at every step.
VARIANT = r"(ControlNet)?(Union)?(PAG)?(Img2Img|Inpaint|Inpainting)?(Legacy)?Pipeline"
ALIASES: Mapping[str, str] = {"LatentConsistencyModelPipeline": "sd", "LatentConsistencyModelImg2ImgPipeline": "sd"}


@dataclass(frozen=True, slots=True)
class Pace:
    """Steps and guidance of a distilled variant, and what it was recognised by."""

    name: str
    steps: int
    scale: float
    by: str


# Name of the weights → steps and guidance scale that its authors use. The first that fits counts.
PACES: tuple[tuple[str, str, int, float], ...] = (
    ("lightning", r"lightning", 4, 0.0),
    ("hyper", r"hyper[-_]?(sd|flux)", 8, 0.0),
    ("z-image-turbo", r"z[-_]?image[-_]?turbo", 8, 0.0),
    ("turbo", r"turbo", 4, 0.0),
    ("schnell", r"schnell", 4, 0.0),
    ("lcm", r"\blcm\b|[-_]lcm|lcm[-_]|latent[-_]consistency", 4, 1.0),
    ("dmd", r"\bdmd2?\b|[-_]dmd2?", 4, 0.0),
)


def of(pipe: Any) -> Family:
    """The family of a pipeline; subclasses belong to their parent's. Raises ConfigError where refine cannot repaint with it."""
    for kind in type(pipe).__mro__:
        name = kind.__name__
        fits = [row for row in TABLE if re.fullmatch(re.escape(row.prefix) + VARIANT, name) or ALIASES.get(name) == row.name]
        if fits:
            return max(fits, key=lambda row: len(row.prefix))
        if (found := _from_maps(name)) and "vae" in pipe.components:  # DeepFloyd and Kandinsky have other parts
            return found
    raise ConfigError(
        f"refine cannot repaint with a {type(pipe).__name__}: it knows no way to inpaint with one, nor to redraw a picture. "
        f"Families that work: {', '.join(row.name for row in TABLE)}."
    )


def named(name: str) -> Family:
    """The row of that name."""
    return next(row for row in TABLE if row.name == name)


def _from_maps(name: str) -> Family | None:
    """A row for a family that only diffusers' Auto maps know; its numbers are its pipeline's own defaults."""
    drawing, painting, editing = (
        maps.AUTO_TEXT2IMAGE_PIPELINES_MAPPING, maps.AUTO_INPAINT_PIPELINES_MAPPING, maps.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING
    )  # fmt: skip
    for key, draw in drawing.items():
        relatives = [table[key] for table in (painting, editing) if key in table]
        usual = inspect.signature(draw.__call__).parameters
        if relatives and "control_image" not in usual and name in (draw.__name__, *(one.__name__ for one in relatives)):
            way: Way = "inpaint" if key in painting else "edit"
            numbers = {"scale": _default(usual, "guidance_scale", 5.0), "steps": _default(usual, "num_inference_steps", 28)}
            negative = "negative_prompt" in usual
            prefix = draw.__name__.removesuffix("Pipeline")
            return Family(key, prefix, draw.__name__, relatives[0].__name__, way=way, negative=negative, **numbers)
    return None


def _default(usual: Mapping[str, inspect.Parameter], name: str, fallback: Any) -> Any:
    found = usual[name].default if name in usual else None
    return fallback if found is None else found


def pace(pipe: Any, source: str = "") -> Pace | None:
    """The distilled variant that a pipeline is, as far as its parts or the names of its weights show it; None for an ordinary one.

    A LoRA that makes a model fast shows only by its scheduler (LCM, TCD) or by an adapter name that says so: else set steps and guidance.
    """
    parts = pipe.components
    scheduler, transformer = type(parts.get("scheduler")).__name__, parts.get("transformer")
    config = transformer.config if transformer is not None else {}
    if type(transformer).__name__ == "FluxTransformer2DModel" and not config.get("guidance_embeds", False):
        return Pace("schnell", 4, 0.0, "its transformer takes no guidance")
    if pipe.config.get("is_distilled"):
        return Pace("distilled", 4, 1.0, "its configuration says is_distilled")
    names = _names(pipe, source)
    for name, pattern, steps, scale in PACES:
        hit = next((text for text in names if re.search(pattern, text.lower())), None)
        if hit:
            counted = re.search(r"(\d+)[-_ ]?steps?", hit.lower())
            return Pace(name, int(counted[1]) if counted else steps, scale, f"the name {hit!r}")
    if scheduler in ("LCMScheduler", "TCDScheduler"):
        is_embedded = (parts["unet"].config.get("time_cond_proj_dim") if parts.get("unet") is not None else None) is not None
        return Pace("lcm", 4, 8.5 if is_embedded else 1.0, f"its {scheduler}")
    return None


def _names(pipe: Any, source: str) -> list[str]:
    """What the pipeline, its denoiser and its adapters are called, without folders above the last two."""
    denoiser = pipe.components.get("unet") or pipe.components.get("transformer")
    told = [source, pipe.config.get("_name_or_path"), denoiser.config.get("_name_or_path") if denoiser is not None else None]
    adapters = list(getattr(denoiser, "peft_config", None) or {})
    return ["/".join(str(text).rstrip("/").split("/")[-2:]) for text in [*told, *adapters] if text]
