"""LEGION (Kang et al. 2025, arXiv 2503.15264) on transformers' own CLIP, LLaMA and SAM: find, explain and mask the faults of an image."""
