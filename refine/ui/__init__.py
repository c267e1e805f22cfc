"""A local page over the same engine as the command line: ``desk`` does the work, ``page`` shows it, ``serve`` answers the browser."""
