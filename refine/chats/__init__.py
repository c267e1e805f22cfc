"""Chat models (``refine.types.Chat``): on this machine, or behind a server that speaks OpenAI's protocol."""
