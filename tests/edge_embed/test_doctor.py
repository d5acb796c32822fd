"""`edge-embed doctor`: what it shows of a machine, and what it says of packages that crash."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

from edge_embed.cli.main import main
from edge_embed.doctor import examine, hardware, measure, parts
from edge_embed.doctor.examine import Finding, Report
from edge_embed.doctor.parts import KNOWN, PARTS, numbers, part_sentence, required
from edge_embed.measuring.children import child
from edge_embed_runtime.model import network, session
from edge_embed_runtime.system import cgroups, memory
from edge_embed_runtime.system import cpu as machine
from edge_embed_runtime.system.cpu import default_threads
from edge_embed_runtime.system.tuning import recall

linux = pytest.mark.skipif(sys.platform != "linux", reason="read from /proc and /sys")
signals = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

SUICIDE = "import os, signal; os.kill(os.getpid(), signal.{})\n"


def command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """edge-embed as a program of its own."""
    return subprocess.run(
        [sys.executable, "-m", "edge_embed", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tuned(cache: Path) -> dict[str, Any]:
    """What the doctor says of this machine and the embedded bundle, which it stores, too."""
    done = command("doctor", "--tune", "--json", XDG_CACHE_HOME=str(cache), LOCALAPPDATA=str(cache))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # a bar is for terminals
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_parts(tuned: dict[str, Any]) -> None:
    """Every native package is named with its version, and works here."""
    found = {part["name"]: part for part in tuned["parts"]}
    assert {"numpy", "onnxruntime", "tokenizers", "usearch", "sqlite3"} <= set(found)
    assert all(part["works"] and part["version"] and part["problem"] is None for part in found.values())
    assert found["numpy"]["version"] == np.__version__
    assert tuned["verdict"] in {"ok", "warnings"}


def test_bundle(tuned: dict[str, Any]) -> None:
    """Each form is measured on 1, 2, 4, ... threads or is wrong here, and one that is right is chosen."""
    (bundle,) = tuned["bundles"]
    assert bundle["name"] == "all-minilm-l6-v2"
    assert bundle["saturates"] is False  # on no CPU: its weights are rounded so
    right = [form for form in bundle["forms"] if form["problem"] is None]
    assert right[0]["exact"] == bundle["choice"]["exact"]
    counts = examine.powers(default_threads())
    for form in right:
        assert form["golden_cosine"] >= 0.999
        assert form["ms_per_query"] > 0
        assert list(form["texts_per_second"]) == [str(count) for count in counts]
        assert all(rate > 0 for rate in form["texts_per_second"].values())
    for form in bundle["forms"]:
        assert form["problem"] is None or "golden" in form["problem"]
    assert bundle["choice"]["threads"] in counts
    assert tuned["scan"]["dim"] == bundle["dim"] == 384
    assert min(tuned["scan"]["ms_per_100k"], tuned["scan"]["ms_per_million"]) > 0


def test_tune(tuned: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict is stored where it says, an embedder finds it, and --forget removes it."""
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(cache))
    path = Path(tuned["tuned"])
    assert path.parent.parent == cache
    (bundle,) = tuned["bundles"]
    choice = recall(bundle["fingerprint"], onnxruntime.__version__)
    assert choice is not None
    assert choice.exact == bundle["choice"]["exact"]
    assert choice.threads in {None, bundle["choice"]["threads"]}
    assert json.loads(path.read_text())["scan_ms"] == tuned["scan"]["ms_per_million"]
    assert CliRunner().invoke(main, ["doctor", "--tune", "--forget"]).exit_code == 2
    assert CliRunner().invoke(main, ["doctor", "--forget"]).stdout == "".join(
        f"{one} removed\n" for one in (path, path.with_name("passed.json"))
    )
    assert CliRunner().invoke(main, ["doctor", "--forget"]).stdout == "nothing was stored\n"
    assert json.loads(CliRunner().invoke(main, ["doctor", "--forget", "--json"]).stdout) == {"forgotten": None}


@signals
def test_packages_that_crash(tmp_path: Path, bundle: Path) -> None:
    """The doctor starts and ends where imports kill the process: each package is named, its signal, what to try.

    Nothing is stored, and the exit status is 1.
    """
    for name, program in {
        "onnxruntime": SUICIDE.format("SIGILL"),
        "usearch": SUICIDE.format("SIGSEGV"),
        "tokenizers": "raise ImportError('cannot open shared object file')",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(program)
    places = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)]), "XDG_CACHE_HOME": str(tmp_path)}
    done = command("doctor", "--tune", "--json", str(bundle), **places)
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert {part["name"] for part in report["parts"] if part["works"]} >= {"numpy", "sqlite3"}
    said = {finding["text"].split()[0]: finding for finding in report["findings"]}
    assert said["onnxruntime"]["level"] == "warning"
    assert "Without it: no bundles except static ones" in said["onnxruntime"]["text"]
    assert f"onnxruntime {onnxruntime.__version__}: its process died: SIGILL" in said["onnxruntime"]["text"]
    assert "an instruction that this CPU does not have" in said["onnxruntime"]["text"]
    assert f"!={onnxruntime.__version__}" in said["onnxruntime"]["text"]
    assert "cannot open shared object file" in said["tokenizers"]["text"]
    assert said["usearch"]["level"] == "warning"
    assert "SIGSEGV" in said["usearch"]["text"]
    assert "Without it: no graphs" in said["usearch"]["text"]
    assert (report["verdict"], report["bundles"], report["tuned"]) == ("unusable", [], None)
    assert report["scan"] is None
    assert not (tmp_path / "edge_embed").exists()


@pytest.fixture
def few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The native packages count as tried, and they work."""

    def works(report: Report, part: parts.Part) -> None:
        report.parts.append({"name": part.name, "version": "99", "works": True, "problem": None})

    monkeypatch.setattr(examine, "try_part", works)


@signals
@pytest.mark.usefixtures("few_parts")
def test_crash_of_a_run(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that kills its process is a sentence, with what was being done; so is a bundle that is none."""
    (tmp_path / "onnxruntime.py").write_text(SUICIDE.format("SIGILL"))
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        report = examine.examine([str(tiny_bundle)])
    (finding,) = [finding for finding in report.findings if finding.level == "problem"]
    assert f"bundle {tiny_bundle}: while importing onnxruntime: its process died: SIGILL" in finding.text
    assert report.bundles[0]["problem"] in finding.text
    report = examine.examine([str(tmp_path)])
    (finding,) = [finding for finding in report.findings if finding.level == "problem"]
    assert "is not a bundle" in finding.text
    assert report.verdict == "unusable"


@pytest.mark.usefixtures("few_parts")
def test_text(monkeypatch: pytest.MonkeyPatch, tuned: dict[str, Any], tmp_path: Path) -> None:
    """For people: forms in a table, a verdict, what is wrong first; a bundle from the environment is found."""
    result = dict(tuned["bundles"][0])
    wrong = {"form": "fast", "exact": False, "problem": "cosine 0.99", "texts_per_second": {}}
    result["forms"] = [next(form for form in result["forms"] if form["problem"] is None), wrong]
    asked = []

    def run(job: dict[str, Any], step: Any) -> tuple[dict[str, Any] | None, str | None]:
        asked.append(job)
        return (tuned["scan"], None) if "scan" in job else (result, None) if len(asked) == 1 else (None, "no bundle")

    monkeypatch.setattr(examine, "_run", run)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "from/environment")
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 0
    assert asked[0]["bundle"] == str(Path("from/environment"))
    assert "does not reproduce the golden vectors" in done.stdout
    assert "best here: " in done.stdout
    assert "\nverdict      OK" in done.stdout
    done = CliRunner().invoke(main, ["doctor", "--tune", "missing", "missing"])
    assert done.exit_code == 1
    assert [job.get("bundle") for job in asked[2:]] == ["missing", None]
    assert "\nbundle       missing: no bundle\n" in done.stdout
    verdict = done.stdout.splitlines().index("verdict      unusable")
    assert done.stdout.splitlines()[verdict + 1] == "  problem: bundle missing: no bundle"
    assert "--tune stored nothing" in done.stdout


def test_child(tmp_path: Path) -> None:
    """Lines of a child are heard; one that ends badly, or not at all, has a reason; it finds our packages."""
    heard: list[str] = []
    assert child(["-c", "print('a'); print('b')"], 60, heard.append) == (["a", "b"], None)
    assert heard == ["a", "b"]
    assert child(["-c", "raise ValueError('of this')"], 60) == ([], "ValueError: of this")
    assert child(["-c", "import sys; sys.exit(3)"], 60)[1] == "its process ended with status 3:"
    assert child(["-c", "import threading; threading.Event().wait()"], 0.1) == ([], "no answer within 0 seconds")
    assert "cannot be started" in (child(["\0"], 60)[1] or "")
    assert child(["-c", "import edge_embed; print(edge_embed.__version__)"], 60)[1] is None


def test_native_part_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be imported is named with the line that installs it, what needs it is not tried; numkong may lack."""
    absent = [parts.Part("numpy", "import numpy_that_is_missing"), parts.Part("numkong", "import nothing_at_all")]
    monkeypatch.setattr(examine, "PARTS", [*absent, PARTS[3]])
    monkeypatch.setattr(examine, "installed_version", lambda _: None)
    report = examine.examine()
    assert [part["name"] for part in report.parts] == ["numpy", "onnxruntime"]
    assert report.parts[1]["problem"] == "not tried: it needs numpy"
    (finding,) = [finding for finding in report.findings if finding.level == "problem"]
    assert finding.text.startswith("numpy (not installed): ModuleNotFoundError")
    assert finding.text.endswith(f"Try: pip install '{required('numpy')}'")


def test_known_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that fails elsewhere is named where the machine is of that kind, also when it works; others are not."""

    def found(name: str, release: str, kind: str) -> list[tuple[str, str]]:
        monkeypatch.setattr("platform.machine", lambda: kind)
        report = Report("0", {})
        report.parts.append({"name": name, "version": release, "works": True, "problem": None})
        examine._look_at_versions(report)
        return [(finding.level, finding.text) for finding in report.findings]

    (old, bad) = found("onnxruntime", "1.21.0", "aarch64")
    assert (old[0], "older than" in old[1]) == ("warning", True)
    assert (bad[0], "23957, 24112" in bad[1]) == ("note", True)
    assert found("onnxruntime", "1.22.0", "aarch64") == []
    assert len(found("onnxruntime", "1.21.0", "x86_64")) == 1
    assert "416, 446" in found("usearch", "2.11.3", "arm64")[1][1]
    (sqlite,) = found("sqlite3", "3.45.1", "x86_64")
    assert (sqlite[0], "one writer" in sqlite[1]) == ("note", True)
    assert found("sqlite3", "3.51.3", "x86_64") == []
    assert all(numbers(known.first) <= numbers(known.last) for known in KNOWN)


def test_sentence_of_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large pages are named where a process died, known releases on the machines they fail on."""
    onnx = next(part for part in PARTS if part.name == "onnxruntime")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    died = part_sentence(onnx, "1.30.0", "its process died: SIGSEGV", 65536)
    assert "Memory pages have 64 KiB here" in died
    assert "23957" in died
    assert "!=1.30.0'" in died
    assert "Memory pages" not in part_sentence(onnx, "1.30.0", "its process died: SIGSEGV", 4096)
    assert "Memory pages" not in part_sentence(onnx, "1.30.0", "ImportError: no", 65536)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert "Known" not in part_sentence(onnx, "1.30.0", "its process died: SIGSEGV", 4096)
    assert "FTS5" in part_sentence(PARTS[1], None, "OperationalError: no such module: fts5", None)


def test_versions_in_requirements() -> None:
    """What edge-embed asks for is read from its metadata, versions compare as numbers."""
    assert (required("numpy") or "").startswith("numpy>=")
    assert required("numkong") is None
    assert numbers("1.22.0rc1") == (1, 22, 0) > numbers("1.9")
    assert numbers("unknown") == ()


def report_of(**changes: Any) -> Report:
    plain = {
        "disk": [{"for": "index", "path": "here", "free": 10**12, "writable": True}],
        "cores": {"usable": 2},
        "load": 0.1,
        "memory": {"total": 10**9, "available": 10**9, "limit": None},
    }
    return Report("0", {**plain, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"load": None}, None),
        ({"load": 1.5}, "busy"),
        ({"disk": [{"for": "index", "path": "here", "free": 10**6, "writable": True}]}, "only 1 MB are free in here"),
        ({"disk": [{"for": "temporary", "path": "t", "free": 1, "writable": False}]}, "t is not writable"),
        ({"memory": {"total": 1, "available": 10**8, "limit": None}}, "132 MB with a small index, and 100 MB are free"),
        ({"memory": {"total": 1, "available": 10**9, "limit": 10**8}}, "and 100 MB are free"),
        ({"memory": {"total": None, "available": None, "limit": None}}, None),
    ],
)
def test_warnings_about_the_machine(changes: dict[str, Any], words: str | None) -> None:
    """A full disk, little memory and other work are warnings that say what to do; an unknown figure is none."""
    report = report_of(**changes)
    examine._look_at_machine(report)
    examine._look_at_memory(report, {"name": "m", "peak_rss": 10**8})
    assert [finding.level for finding in report.findings] == ([] if words is None else ["warning"])
    assert words is None or words in report.findings[0].text


def test_verdict_of_findings() -> None:
    """Notes do not count, warnings do, one problem makes it unusable."""
    report = report_of()
    for level, verdict in (("note", "ok"), ("warning", "warnings"), ("problem", "unusable"), ("note", "unusable")):
        report.findings.append(Finding(level, "text"))
        assert report.verdict == verdict


def test_threads_that_are_worth_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fewest threads within 5 % of the best are chosen; stored where they are fewer than all, and not when busy."""
    assert measure.fewest({"1": 100.0, "2": 103.0}) == 1
    assert measure.fewest({"1": 100.0, "2": 190.0, "4": 198.0, "6": 170.0}) == 2
    assert examine.powers(1) == [1]
    assert examine.powers(6) == [1, 2, 4, 6]
    assert examine.powers(8) == [1, 2, 4, 8]
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path))
    name = "0" * 32
    for load, threads, stored in ((0.0, 1, 1), (0.0, 2, None), (1.9, 1, None)):
        report = report_of(load=load)
        report.parts.append({"name": "onnxruntime", "version": "1.30"})
        report.bundles.append({"fingerprint": name, "choice": {"exact": False, "threads": threads}})
        examine._tune(report)
        choice = recall(name, "1.30")
        assert choice is not None
        assert choice.threads == stored


def test_form_that_cannot_saturate(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the manifest says so nothing is probed, and there is nothing to choose between."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(session, "products_saturate", None)
    found = measure.measure_bundle(str(tiny_bundle), [1])
    assert [(form["form"], form["exact"], form["problem"]) for form in found["forms"]] == [("int8", False, None)]
    assert (found["saturates"], found["choice"]["form"]) == (False, "int8")


def test_forms_of_a_bundle(
    older_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where int8 products do not saturate both forms are right; where the first is wrong, the second is chosen."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(session, "products_saturate", lambda: False)
    original = session.make_session
    monkeypatch.setattr(session, "make_session", lambda *given, **named: original(*given, **{**named, "exact": True}))
    found = measure.measure_bundle(str(older_bundle), [1, 2])
    assert [(form["form"], form["problem"]) for form in found["forms"]] == [("fast", None), ("exact", None)]
    assert found["choice"]["form"] == "fast"
    assert found["peak_rss"] is None or found["peak_rss"] > 10**7
    assert not any("peak_rss" in form for form in found["forms"])
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(message.get("done", 0) for message in said) == pytest.approx(1)
    cosines = iter([0.9, 1.0])
    monkeypatch.setattr(network, "golden_cosine", lambda *_: next(cosines))
    found = measure.measure_bundle(str(older_bundle), [1])
    assert "cosine 0.9000" in found["forms"][0]["problem"]
    assert found["choice"]["form"] == "exact"
    monkeypatch.setattr(network, "golden_cosine", lambda *_: 0.9)
    assert measure.measure_bundle(str(older_bundle), [1])["choice"] is None
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert [form["form"] for form in measure.measure_bundle(str(older_bundle), [1])["forms"]] == ["fast"]


@pytest.mark.usefixtures("few_parts")
def test_forms_that_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first form wrong is a warning, all of them a problem."""
    wrong = {"form": "fast", "problem": "golden vectors: cosine 0.9"}
    found = {"path": "p", "name": "m", "dim": 8, "fingerprint": "0" * 32, "peak_rss": None}
    for forms, choice, level in (([wrong, {}], {"form": "exact"}, "warning"), ([wrong], None, "problem")):
        result = {**found, "forms": forms, "choice": choice}
        monkeypatch.setattr(examine, "_run", lambda job, _, result=result: (None if "scan" in job else result, None))
        findings = examine.examine().findings
        assert [one.level for one in findings if "onnxruntime" in one.text and "version" in one.text] == [level]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a system whose files are the test's."""

    class Rooted(type(tmp_path)):  # type: ignore[misc]
        def read_text(self, *arguments: Any, **options: Any) -> str:
            return Path(f"{tmp_path}{self}").read_text(*arguments, **options)

    monkeypatch.setattr(memory, "Path", Rooted)
    monkeypatch.setattr(machine, "Path", Rooted)
    monkeypatch.setattr(hardware, "memory_limit", lambda: cgroups.memory_limit(tmp_path))
    for module in (hardware, machine):
        monkeypatch.setattr(module, "cpu_quota", lambda: cgroups.cpu_quota(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    return tmp_path


def lay(root: Path, contents: dict[str, str]) -> None:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@linux
def test_limits_of_cgroups(files: Path) -> None:
    """Memory, processors and cores are told with the tightest limits of the process's groups."""
    lay(
        files,
        {
            "proc/self/cgroup": "0::/a/b\n",
            "proc/meminfo": "MemTotal: 2000 kB\nMemFree: 1 kB\nMemAvailable: 1000 kB\n",
            "sys/fs/cgroup/a/memory.max": "104857600\n",
            "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n",
            **{f"sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": f"{i % 2}\n" for i in range(4)},
        },
    )
    assert hardware.memory() == {"total": 2_048_000, "available": 1_024_000, "limit": 104_857_600}
    assert hardware.cores() == {"usable": 2, "affinity": 4, "quota": 1.5, "physical": 2}


@linux
def test_a_system_that_tells_nothing(files: Path) -> None:
    """What cannot be read is unknown, not an error."""
    lay(files, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n", "proc/meminfo": "MemTotal: much\n"})
    assert hardware.memory()["limit"] is None
    found = hardware.cores()
    assert (found["quota"], found["physical"]) == (None, None)


def test_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free space is told for here, temporary files and the cache, also where that folder is still to be made."""
    monkeypatch.chdir(tmp_path)
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "not" / "made"))
    found = {disk["for"]: disk for disk in hardware.disks()}
    assert found["index"]["path"] == str(Path.cwd())
    assert found["cache"]["path"] == str(tmp_path / "not" / "made" / "edge_embed")
    assert all(disk["free"] > 0 for disk in found.values())
    assert set(found) == {"index", "temporary", "cache"}


X86 = "processor : 0\nmodel name : Some CPU @ 2 GHz\nflags : fpu avx2 avx512_vnni\n\nprocessor : 1\nflags : fpu\n"
PI = "processor : 0\nFeatures : fp asimd asimddp\nCPU implementer : 0x41\nCPU part : 0xd0b\n\nModel : Raspberry Pi 5\n"


@pytest.mark.parametrize(
    ("text", "features", "identity"),
    [
        (X86, ("avx2", "avx512_vnni"), "Some CPU @ 2 GHz"),
        (PI, ("asimd", "asimddp"), "Raspberry Pi 5 0x41 0xd0b"),
        (X86 + "processor : 9\nflags : sve\n" * 10_000 + "Model : later\n", ("avx2", "avx512_vnni", "sve"), None),
    ],
)
def test_cpu(
    text: str, features: tuple[str, ...], identity: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features and identity come from /proc/cpuinfo, of which a first part is enough."""
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / "cpuinfo" if path == "/proc/cpuinfo" else Path(path))
    clear()
    assert machine.cpu_features() == features
    assert identity in {None, machine.cpu_identity()}
    assert "later" not in machine.cpu_identity()
    clear()


def test_cpu_of_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc/cpuinfo no feature is known, and the kernel or the environment names the CPU."""
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "none")
    clear()
    assert machine.cpu_features() == ()
    assert machine.cpu_identity()
    monkeypatch.delattr(os, "uname", raising=False)
    monkeypatch.setenv("PROCESSOR_IDENTIFIER", "ARMv8 (64-bit) Family 8")
    clear()
    assert "ARMv8 (64-bit) Family 8" in machine.cpu_identity()
    clear()


def clear() -> None:
    machine._cpuinfo.cache_clear()
    machine.cpu_identity.cache_clear()
