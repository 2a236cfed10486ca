"""`hl`, the command line. Nothing imports it."""
