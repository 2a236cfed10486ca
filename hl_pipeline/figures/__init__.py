"""Computes statistics: frames in, frames out. No I/O."""
