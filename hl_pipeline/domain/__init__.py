"""Records shared by all layers, and pure rules on them: completeness, deduplication, due days, object keys. No I/O."""
