"""Decoders, one module per source format: bytes in, typed frames out. No I/O."""
