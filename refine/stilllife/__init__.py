"""Still life: a small procedural world of lit solids, its captions, and a catalogue of damage with exact truth."""
