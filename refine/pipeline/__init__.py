"""refine as a stage of diffusers: three ways in, one engine.

Refiner          around any loaded pipeline: ``Refiner(pipe, controller=..., rewards=...)("a prompt")``
RefinePipeline   a pipeline of its own that is saved and loaded as a whole
RefineStep       a block that follows any modular text-to-image workflow; ``save_workflow`` saves what was composed with it
"""

from __future__ import annotations

from refine.pipeline.output import RefineOutput
from refine.pipeline.refiner import Refiner
from refine.pipeline.saved import RefinePipeline
from refine.pipeline.step import RefineStep
from refine.pipeline.workflow import save_workflow

__all__ = ["RefineOutput", "RefinePipeline", "RefineStep", "Refiner", "save_workflow"]
