"""Checks with many random cases. `python -m hl_pipeline_tests.tools.reliability --help` lists them."""
