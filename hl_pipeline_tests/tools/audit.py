"""`python -m hl_pipeline_tests.tools.audit REQUIREMENTS`: known vulnerabilities of locked packages, by pip-audit. `make audit`.

A package version with known vulnerabilities is asked for first. A service that does not know them answers "none" for everything,
as a mirror of PyPI without its JSON API does: then nothing was checked, and this says so.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from hl_pipeline_tests.processes import PROJECT

_KNOWN_BAD = "jinja2==2.10 --hash=sha256:" + "0" * 64
_OK, _FOUND = 0, 1
NOT_CHECKED = "not checked: no vulnerability service reached"


@dataclass(frozen=True, slots=True)
class Finding:
    """A vulnerability of a package: its IDs, and the versions without it."""

    package: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]


class NoServiceError(RuntimeError):
    """A service cannot be reached, or knows nothing. The message has its last words."""


def main(arguments: list[str]) -> int:
    """Print what was found. Returns 1 if any of it is not accepted in pyproject.toml, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requirements", type=Path, help="what `uv export` wrote, with hashes")
    parser.add_argument("--osv-url", help="ask only this service, which speaks OSV's API")
    parser.add_argument("--accepted", type=Path, default=PROJECT / "pyproject.toml", help="TOML with [tool.audit.accepted]")
    options = parser.parse_args(arguments)
    accepted = read_accepted(options.accepted)
    services = [["--vulnerability-service", "osv", "--osv-url", options.osv_url]] if options.osv_url else _SERVICES
    reasons: list[str] = []
    for service in services:
        try:
            if not ask(_write(_KNOWN_BAD), service):
                raise NoServiceError("it knows no vulnerability of jinja2 2.10")
            return _judge(ask(options.requirements, service), accepted)
        except NoServiceError as error:
            reasons.append(f"{service[1]}: {error}")
    print(NOT_CHECKED, *reasons, sep="\n  ")
    return _OK


_SERVICES = [["--vulnerability-service", name] for name in ("pypi", "osv")]


def read_accepted(file: Path) -> dict[str, str]:
    """Return the reason of each accepted ID. Ends the program if one has none."""
    accepted = tomllib.loads(file.read_text()).get("tool", {}).get("audit", {}).get("accepted", {})
    for name, reason in accepted.items():
        if not isinstance(reason, str) or not reason.strip():
            raise SystemExit(f"error: {file.name}: tool.audit.accepted: {name} needs a reason")
    return accepted


def ask(requirements: Path, service: list[str]) -> list[Finding]:
    """Return what a service knows of the packages. Raises NoServiceError."""
    options = ["--requirement", str(requirements), "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    command = [str(Path(sys.executable).parent / "pip-audit"), *options, "--format", "json", *service]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise NoServiceError(next(reversed(done.stderr.split("\n")[:-1]), f"exit code {done.returncode}")) from None
    if skipped := [package["skip_reason"] for package in packages if "skip_reason" in package]:
        raise NoServiceError(skipped[0])
    return [
        Finding(
            f"{package['name']} {package['version']}", (*sorted({found["id"], *found["aliases"]}),), (*found["fix_versions"],)
        )
        for package in packages
        for found in package["vulns"]
    ]


def _judge(findings: list[Finding], accepted: dict[str, str]) -> int:
    """Print the findings, and IDs that are accepted for nothing."""
    known = {name for finding in findings for name in finding.ids}
    for name in accepted.keys() - known:
        print(f"warning: {name} is accepted in pyproject.toml, but nothing has it any more: remove the line")
    refused = [finding for finding in findings if not accepted.keys() & set(finding.ids)]
    for finding in findings:
        reason = next((accepted[name] for name in finding.ids if name in accepted), None)
        remedy = f"fixed in {', '.join(finding.fixed_in)}" if finding.fixed_in else "no version without it"
        print(f"{finding.package}: {', '.join(finding.ids)}; {remedy if reason is None else f'accepted: {reason}'}")
    print(f"{len(refused)} vulnerabilities to act on; {len(findings) - len(refused)} accepted")
    return _FOUND if refused else _OK


def _write(requirement: str) -> Path:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
        file.write(requirement + "\n")
    return Path(file.name)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
