"""The work behind the command line: one module per command, with ``execute(args)``; results go to stdout, progress to stderr."""
