"""Frames in, statistics out. No I/O."""
