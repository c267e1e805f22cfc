"""``refine bench``: arms × samples, compute-matched, paired, and judged by what did not steer them.

samples    what is drawn or repaired: still life, a prompt file, or a published benchmark (``layouts``)
arms       named overlays of the configuration, and what steers each of them
metrics    what is measured on every final picture
folder     the files of a bench, and a ledger per arm
work       the arms, batch by batch; ``cost`` counts what they spend
summary    paired statistics; ``tables``, ``plots`` and ``page`` show them
tuning     ``refine tune``: the gate's margins and the strengths for a person's own models
"""
