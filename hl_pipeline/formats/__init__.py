"""Bytes in, typed frames out: a module per format of the sources. No I/O."""
