"""examples/kiosk: its units, as they are installed, and the service that they start."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders.examples import FOLDER
from builders.services import started

from edge_embed import Document, Embedder, Index

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd")
KIOSK = FOLDER / "kiosk"
UNITS = Path("etc/systemd/system")
SHARE = "usr/local/share/edge-embed"


@pytest.fixture
def index(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Of the bundle that a test asks for, or minilm."""
    with Index.open(tmp_path / "notes.db", Embedder(getattr(request, "param", "minilm"))) as made:
        made.add(
            [Document("ferry", "The ferry to the island leaves at nine."), Document("bread", "Bread needs an oven.")]
        )
    return tmp_path / "notes.db"


def install(index: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the script as it would be for a card that is mounted at `root`."""
    program = root.parent / "edge-embed"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge_embed "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("EDGE_EMBED", str(program))
    subprocess.run(["sh", KIOSK / "install.sh", index, root], check=True, capture_output=True)  # noqa: S607


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemd is not installed")
def test_install(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The units are where systemd looks for them, start at boot, and `systemd-analyze verify` has nothing to say; the
    index is a whole copy, which a second run replaces."""
    root = tmp_path / "root"
    install(index, root, monkeypatch)
    wanted = {path.relative_to(root / UNITS).as_posix() for path in (root / UNITS).rglob("*.wants/*")}
    assert wanted == {
        "multi-user.target.wants/edge-embed.service",
        "sockets.target.wants/edge-embed.socket",
        "multi-user.target.wants/kiosk-screen.service",
    }
    with Index.open(index, Embedder()) as made:
        made.delete("bread")
    install(index, root, monkeypatch)
    with Index.open(root / SHARE / "index.db", read_only=True) as copied:
        assert list(copied.keys()) == ["ferry"]
    assert [path.name for path in (root / SHARE).iterdir()] == ["index.db"]
    for path in (root / UNITS).rglob("*.*"):
        if path.is_file() and not path.is_symlink():
            path.write_text(re.sub(r"/opt/edge-embed/bin/edge-embed|/usr/bin/cage", "/bin/true", path.read_text()))
    command = ["systemd-analyze", "verify", "edge-embed.service", "edge-embed.socket", "kiosk-screen.service"]
    monkeypatch.setenv("SYSTEMD_UNIT_PATH", f"{root / UNITS}:")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("index", ["minilm", "static"], indirect=True)
def test_service(index: Path, tmp_path: Path) -> None:
    """The command of the unit serves the page and finds, takes no changes, and stays far under MemoryMax."""
    text = (KIOSK / "kiosk.conf").read_text()
    _, program, name, options = re.findall(r"^ExecStart=(\S*) ?(\S*) ?(\S*) ?(.*)$", text, re.MULTILINE)[1]
    assert (program, name) == ("serve", f"/{SHARE}/index.db")
    limit = int(re.findall(r"^MemoryMax=(\d+)M$", text, re.MULTILINE)[0]) * 2**20
    with started(tmp_path, index, *options.split()) as service:
        assert service.ask("GET", "/").status == 200
        hits = service.ask("POST", "/index/search", {"query": "when does the boat leave?", "k": 1}).json()["hits"]
        assert hits[0]["key"] == "ferry"
        body = {"documents": [{"key": "a", "text": "a"}]}
        assert service.ask("POST", "/index/documents", body).status in (401, 403, 405)
        peak = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{service.process.pid}/status").read_text())[0]
        assert int(peak) * 1024 < 0.8 * limit
