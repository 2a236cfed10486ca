"""Records that travel, and the rules on them: completeness, deduplication, due days, object keys. No I/O."""
