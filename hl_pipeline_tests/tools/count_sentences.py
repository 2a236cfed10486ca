"""`python -m hl_pipeline_tests.tools.count_sentences [--show]`: sentences of more than 25 words, by page."""

from __future__ import annotations

import sys

from hl_pipeline_tests.documents import long_sentences, name_of, pages


def main() -> None:
    """Print a line per page and, with --show, the sentences."""
    total = 0
    for page in pages():
        found = long_sentences(page)
        total += len(found)
        print(f"{len(found):4}  {name_of(page)}")  # noqa: T201
        for sentence in found if "--show" in sys.argv else ():
            print(f"      {sentence}")  # noqa: T201
    print(f"{total:4}  in all")  # noqa: T201


if __name__ == "__main__":
    main()
