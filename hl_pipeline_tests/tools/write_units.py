"""`python -m hl_pipeline_tests.tools.write_units [DIRECTORY]`: the units of deploy/systemd, from the commands of `hl up`.

`hl.service` is everything on one machine, PostgreSQL too. The others are the services one by one, for a database of its own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hl_pipeline.ops.services import Address, commands
from hl_pipeline_tests.processes import PROJECT

UNITS = PROJECT / "deploy" / "systemd"
_CODE = Path("/opt/hl-pipeline")
_HOME = "/var/lib/hl"
_SETTINGS = "/etc/hl-pipeline/hl.env"
_PORTS = (3000, 8000)

# What the program does without; docs/guides/run-as-a-service.md says what was tried.
# PostgreSQL compiles: no MemoryDenyWriteExecute=.
_HARDENING = """
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0027
"""
_UNIT = """# Written by `make units`; change it with a drop-in (`systemctl edit {name}`).
[Unit]
Description={description}
Documentation=file:{code}/docs/guides/run-as-a-service.md
After=network-online.target{after}
Wants=network-online.target
{conflicts}StartLimitIntervalSec=15min
StartLimitBurst=10

[Service]
{service}
ExecStart={command}
User=hl
# It makes {home}, and is the one place that can be written to; a lake elsewhere needs ReadWritePaths=.
StateDirectory=hl
StateDirectoryMode=0750
WorkingDirectory={home}
# NUMBA_CACHE_DIR is where the scanners of fills keep their machine code.
Environment=HL_HOME={home} NUMBA_CACHE_DIR={home}/compiled{environment}
# HL_* and AWS_* variables, NAME=value a line, as in .env.example; which root alone needs to read.
EnvironmentFile=-{settings}
Restart=on-failure
RestartSec=10
# The main process is told; what it has not ended by itself in time is killed.
KillMode=mixed
TimeoutStopSec={stop}
{hardening}

[Install]
WantedBy=multi-user.target
"""


def main() -> None:
    """Write the units."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?", default=UNITS, help="where they are written")
    parser.add_argument("--code", type=Path, default=_CODE, help="where the repository and its .venv are")
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    for name, text in make_units(given.code).items():
        (given.directory / name).write_text(text)


def make_units(code: Path = _CODE) -> dict[str, str]:
    """Return the text of each unit by name, for the repository at `code`."""
    found = commands(*(Address(port) for port in _PORTS))
    parts = {name: " ".join(_place(word, code) for word in command) for name, command in found.items()}
    dagster = (
        "Type=exec\n"
        "# Dagster reads it in DAGSTER_HOME.\n"
        f"ExecStartPre=/usr/bin/install -D -m 644 {code}/dagster.yaml {_HOME}/dagster/dagster.yaml"
    )
    of_dagster = f" DAGSTER_HOME={_HOME}/dagster HL_SETTINGS_RESOLVED=1"
    return {
        "hl.service": _unit(
            code,
            "hl.service",
            "hl-pipeline: PostgreSQL, the Dagster UI, its daemon and the REST API",
            f"{code}/.venv/bin/hl up",
            "Type=notify\nNotifyAccess=main\n"
            "# After a crash PostgreSQL first recovers, for up to five minutes.\n"
            "TimeoutStartSec=10min\nWatchdogSec=6min",
            stop="2min",
        ),
        "hl-webserver.service": _unit(
            code, "hl-webserver.service", "hl-pipeline: the Dagster UI", parts["webserver"], dagster, of_dagster, stop="30s"
        ),
        "hl-daemon.service": _unit(
            code,
            "hl-daemon.service",
            "hl-pipeline: Dagster's daemon, its sensors, schedules and runs",
            parts["daemon"],
            dagster,
            of_dagster,
            # Runs in work are told to end, and note how far they were.
            stop="1min",
            after=" hl-webserver.service",
        ),
        "hl-api.service": _unit(
            code, "hl-api.service", "hl-pipeline: the REST API", parts["api"], "Type=exec", " HL_SETTINGS_RESOLVED=1", stop="30s"
        ),
    }


def _unit(
    code: Path, name: str, description: str, command: str, service: str, environment: str = "", *, stop: str, after: str = ""
) -> str:
    return _UNIT.format(
        code=code,
        name=name,
        description=description,
        command=command,
        service=service,
        environment=environment,
        stop=stop,
        after=after,
        conflicts="" if name == "hl.service" else "# It has these services too, and their ports.\nConflicts=hl.service\n",
        home=_HOME,
        settings=_SETTINGS,
        hardening=_HARDENING.strip(),
    )


def _place(word: str, code: Path) -> str:
    """A word of a command here as it is on the machine of the units."""
    programs = str(Path(sys.executable).parent)
    return word.replace(programs, f"{code}/.venv/bin").replace(str(PROJECT), str(code))


if __name__ == "__main__":
    main()
