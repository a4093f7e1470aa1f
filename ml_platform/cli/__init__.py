"""``mlp``, the command line: it parses, calls one use case, and shows the answer. No rule lives here."""
