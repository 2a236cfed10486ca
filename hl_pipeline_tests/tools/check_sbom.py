"""`python -m hl_pipeline_tests.tools.check_sbom FILE`: whether a CycloneDX document is valid and has every package of uv.lock."""

# ruff: noqa: T201

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from hl_pipeline_tests.processes import PROJECT


def main(file: Path) -> None:
    """Print what the document has. Ends the program with what is wrong with it."""
    # Their import takes four seconds, which the collection of all tests would spend too.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from jsonschema import Draft7Validator

    text = file.read_text()
    document = json.loads(text)
    # Parsing the address of each of 3,000 files by the grammar of RFC 3987 takes six minutes; the rest, two seconds.
    Draft7Validator.FORMAT_CHECKER.checkers = {
        name: check for name, check in Draft7Validator.FORMAT_CHECKER.checkers.items() if name != "iri-reference"
    }
    if error := JsonStrictValidator(SchemaVersion.from_version(document["specVersion"])).validate_str(text):
        raise SystemExit(f"error: {file} is not valid CycloneDX {document['specVersion']}: {str(error).partition(chr(10))[0]}")
    found = {(package["name"], package["version"]) for package in document["components"]}
    if missing := read_shipped() - found:
        raise SystemExit(f"error: {file} lacks {sorted(missing)}")
    print(f"{file}: {len(found)} packages, CycloneDX {document['specVersion']}, valid")


def read_shipped() -> set[tuple[str, str]]:
    """Return the name and version of each package that uv.lock has for an installation with all extras."""
    packages = tomllib.loads((PROJECT / "uv.lock").read_text())["package"]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for package in packages:
        by_name.setdefault(package["name"], []).append(package)
    [ours] = by_name["hl-pipeline"]
    waiting = [*ours["dependencies"], *(one for extra in ours.get("optional-dependencies", {}).values() for one in extra)]
    shipped: set[tuple[str, str]] = set()
    reached: set[tuple[str, str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        for package in by_name[wanted["name"]]:
            if wanted.get("version", package["version"]) != package["version"]:
                continue
            shipped.add((package["name"], package["version"]))
            for extra in ("", *wanted.get("extra", ())):
                if (key := (package["name"], package["version"], extra)) not in reached:
                    reached.add(key)
                    waiting += (
                        package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
                    )
    return shipped


if __name__ == "__main__":
    main(Path(sys.argv[1]))
