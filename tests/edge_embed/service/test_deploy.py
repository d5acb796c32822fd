"""The container file and the systemd units say what they should; no container engine is needed."""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from edge_embed.cli.main import main
from edge_embed.cli.serve import PORT

DEPLOY = Path(__file__).parents[3] / "deploy"


def instructions() -> list[tuple[str, str]]:
    """The container file: ("FROM", "debian:..."), ..."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Containerfile").read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


def is_called_right(arguments: list[str]) -> bool:
    """Whether `edge-embed serve` takes these arguments."""
    command = main.commands["serve"]
    try:
        command.make_context("serve", list(arguments))
    except click.UsageError:
        return False
    return True


def unit(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(DEPLOY / name)
    return found


def test_container_runs_without_rights() -> None:
    """Debian slim twice, the last without compilers; a numeric user that is not root; one folder that is written."""
    found = instructions()
    assert [text.partition(" AS ")[0] for name, text in found if name == "FROM"] == ["debian:trixie-slim"] * 2
    last = found[max(i for i, (name, _) in enumerate(found) if name == "FROM") :]
    values = dict(last)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", values["USER"])
    assert (values["VOLUME"], values["WORKDIR"], values["STOPSIGNAL"]) == ("/data", "/data", "SIGTERM")
    users = [i for i, (name, _) in enumerate(last) if name == "USER"]
    assert not [name for name, _ in last[users[0] :] if name in ("RUN", "COPY", "ADD")]
    assert not [text for name, text in last if name == "ADD" or "curl" in text or "TOKEN" in text]
    runs = " ".join(text for name, text in last if name == "RUN")
    assert "venv" not in runs
    assert "rm -rf /var/lib/apt/lists/*" in runs


def test_container_calls_the_program_right() -> None:
    """Its arguments exist, and its health check asks the port that it listens on."""
    values = dict(instructions())
    entry, command = json.loads(values["ENTRYPOINT"]), json.loads(values["CMD"])
    check = json.loads(values["HEALTHCHECK"].partition("CMD ")[2])
    assert entry == check[:2] == ["/opt/edge-embed/bin/edge-embed", "serve"]
    assert is_called_right(command)
    assert is_called_right(check[2:])
    assert check[2:] == ["--check"]
    assert values["EXPOSE"] == str(PORT)
    assert not is_called_right([*command, "--no-such-option"])


def test_units() -> None:
    """The socket is on loopback; the service has it passed, gets the token as a credential, and may do little else."""
    socket, service = unit("edge-embed.socket"), unit("edge-embed.service")
    assert socket["Socket"]["ListenStream"] == f"127.0.0.1:{PORT}"
    called = service["Service"]["ExecStart"].split()
    assert called[1] == "serve"
    assert is_called_right(called[2:])
    assert not {"--host", "--port", "--unix"} & set(called)
    expected = {"Type": "notify", "DynamicUser": "yes", "PrivateNetwork": "yes", "ProtectSystem": "strict"}
    assert {name: service["Service"][name] for name in expected} == expected
    assert service["Unit"]["Requires"] == "edge-embed.socket"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say."""
    for name in ("edge-embed.socket", "edge-embed.service"):
        text = (DEPLOY / name).read_text().replace("/opt/edge-embed/bin/edge-embed", "/bin/true")
        (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", str(tmp_path / "edge-embed.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
