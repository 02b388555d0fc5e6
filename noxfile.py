"""The checks, builds and demonstrations: `nox` runs all checks, `nox -l` lists the sessions.

Owns the sessions; the tools' settings are in `pyproject.toml`.
Never knows Trivet: it starts the installed programs.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import closing, suppress
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"  # uv is the quick one, where it is there
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests", "docs", "wheel"]

PROJECT = nox.project.load_toml("pyproject.toml")
LOCK = "tests/constraints.txt"
"""The versions with which the tests have passed; `nox -s lock` renews them."""
PYTHONS = ("3.11", "3.12", "3.13")
SOURCES = ("runtime", "contrib", "plugins", "docs", "tests", "noxfile.py")
OTHER_CANCELLATIONS = "tests/runtime/process/misbehaving/*:ASYNC tests/runtime/on_asyncio/*:ASYNC"
LEFT_OUT = (
    *("ASYNC100", "ASYNC300"),  # ruff has them
    *("ASYNC114", "ASYNC128"),  # a `task_status` may be handed on
    "ASYNC124",  # a hook or a view is a coroutine whether or not it awaits
    "ASYNC127",  # httpx is what its users have
    *("ASYNC910", "ASYNC911", "ASYNC912", "ASYNC913"),  # not every function is a checkpoint
)
"""Rules that flake8-async leaves out; the slow ones among them would take a minute together."""
FLAKE8_ASYNC = (
    "--select=ASYNC",
    f"--disable={','.join(LEFT_OUT)}",
    # As in ruff's settings.
    f"--per-file-ignores=tests/*:ASYNC110 {OTHER_CANCELLATIONS}",
)

WORKERS = (os.cpu_count() or 1) + 1
"""Processes that share the tests, of which some wait while others compute."""
IN_PROCESSES = ("--numprocesses", str(WORKERS))
"""pytest's option for them; `-n 0` among a session's arguments keeps all tests in one process."""
COMPILED = {"PYTHONDONTWRITEBYTECODE": "", "UV_COMPILE_BYTECODE": "1"}
"""Variables that compile modules once, and not in each of the hundreds of programs of the tests."""

PRINT_VERSIONS = """
import re
from importlib.metadata import distributions

for each in distributions():
    print(re.sub("[-_.]+", "-", each.name).lower(), each.version, sep="==")
"""
"""A program that prints the installed versions in the form of the lock."""

NEEDED = {
    "bench_doors": "wrk",
    "bench_http": "wrk",
    "bench_nats": "nats-server",
    "bench_rabbitmq": "rabbitmq-server",
    "bench_redis": "redis-server",
    "bench_replicas": "redis-server",
    "bench_server": "wrk",
}
"""The program that a benchmark needs on the PATH."""


def install(session: nox.Session, *groups: str, newest: bool = False) -> None:
    """Install the working copy with all its extras, and the libraries of the dependency groups.

    Args:
        session: the session whose environment gets them.
        groups: the dependency groups.
        newest: whether to install the newest versions that are allowed, not the locked ones.
    """
    if newest:
        options = ["--upgrade"]
        if session.venv_backend != "uv":
            options += ["--upgrade-strategy", "eager"]  # uv has no other.
    else:
        options = ["--constraint", LOCK, "--build-constraint", LOCK]
    listed = nox.project.dependency_groups(PROJECT, *groups)
    session.install(*options, "-e", ".[all]", *listed, env=COMPILED)


def write_plugins(session: nox.Session) -> str:
    """Write a plugin of each kind by `trivet new`; returns the directory."""
    directory = Path(session.create_tmp()).resolve() / "plugins_of_each_kind"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    with session.chdir(directory):
        for kind in ("event", "background", "batch", "source", "sink", "page"):
            session.run("trivet", "new", kind, f"new_{kind}", silent=True)
    return str(directory)


def run_tests(session: nox.Session, *more: str) -> None:
    """Run pytest in several processes, with the session's arguments."""
    session.run("pytest", *IN_PROCESSES, *more, *session.posargs, env=COMPILED)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, layers of imports, docstrings."""
    install(session, "lint")
    session.run("ruff", "check", *SOURCES)
    session.run("ruff", "format", "--check", *SOURCES)
    session.run("flake8", *FLAKE8_ASYNC, *SOURCES)
    session.run("lint-imports")
    session.run("interrogate", "runtime", "contrib")
    workflows = map(str, Path(".github/workflows").iterdir())
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    written = write_plugins(session)
    session.run("ruff", "check", "--isolated", "--select=E,F,I,UP,B", "--line-length=88", written)
    session.run("ruff", "format", "--isolated", "--check", written)


@nox.session
def types(session: nox.Session) -> None:
    """Types, by two strict checkers, and the completeness of the public ones."""
    install(session, "types")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "trivet", "--ignoreexternal")
    written = write_plugins(session)
    session.run("mypy", "--strict", written)
    session.run("pyright", written)


@nox.session
def tests(session: nox.Session) -> None:
    """The tests, docstrings and documents; arguments go to pytest."""
    install(session, "test")
    run_tests(session)


@nox.session
def quick(session: nox.Session) -> None:
    """The tests in memory and under a clock that jumps; arguments go to pytest."""
    install(session, "test")
    run_tests(session, "-m", "not (process or broker or model or real_time)")


@nox.session(venv_backend="none")
def pythons(session: nox.Session) -> None:
    """The tests with each other Python that Trivet supports and that is on this machine."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in PYTHONS:
        if version == running:
            continue
        python = find_python(version)
        if python is None:
            session.warn(f"Python {version} is not on this machine: nothing is tested with it")
            continue
        nox_there = ("--envdir", f".nox/{version}", "--force-python", python)
        arguments = ("--", *session.posargs)
        session.run(sys.executable, "-m", "nox", "-s", "tests", *nox_there, *arguments)


@nox.session
def newest(session: nox.Session) -> None:
    """The tests with the newest versions that are allowed, and which of them are not locked."""
    install(session, "test", newest=True)
    found = set(str(session.run("python", "-c", PRINT_VERSIONS, silent=True)).splitlines())
    locked = {line.partition(" ;")[0] for line in Path(LOCK).read_text().splitlines()}
    names = {line.partition("==")[0] for line in locked}
    newer = {line for line in found if line.partition("==")[0] in names} - locked
    session.log(f"Not the locked version: {', '.join(sorted(newer)) or 'none'}")
    run_tests(session)


@nox.session
def lock(session: nox.Session) -> None:
    """Lock the newest versions that are allowed, for all Pythons; arguments go to uv instead.

    `-- --upgrade-package quart` renews one; `-- --quiet` only what no longer fits.
    """
    session.install("uv")
    options = ("--universal", "--python-version", PYTHONS[0], "--all-extras", "--group", "dev")
    form = ("--no-annotate", "--custom-compile-command", "nox -s lock", "--output-file", LOCK)
    which = session.posargs or ("--upgrade",)
    session.run("uv", "pip", "compile", "pyproject.toml", *options, *form, *which, silent=True)


@nox.session
def coverage(session: nox.Session) -> None:
    """The tests again, with the branches that they take."""
    install(session, "coverage")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site; each link in it leads somewhere, and nothing is fetched."""
    install(session, "docs")
    built = Path(session.create_tmp()).resolve() / "site"
    shutil.rmtree(built, ignore_errors=True)
    options = ("--fail-on-warning", "--keep-going", "--quiet", "--conf-dir", "docs/site")
    session.run("sphinx-build", *options, "--doctree-dir", f"{built}.doctrees", ".", str(built))
    session.run("python", "-m", "tests.site", str(built), f"{built}.links")
    session.log(f"Read {built}/index.html")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build both distributions; install the wheel where nothing else is, and run it from there."""
    built = Path(session.create_tmp()) / "dist"
    file = build(session, built)
    fresh = built.parent / "fresh"
    session.run("python", "-m", "venv", "--clear", str(fresh))
    pip = (f"{fresh}/bin/pip", "install", "--constraint", LOCK)
    session.run(*pip, str(file), external=True, silent=True)
    session.run(f"{fresh}/bin/trivet", "--version", external=True)
    session.run(f"{fresh}/bin/python", "-Ic", "import trivet, trivet_contrib", external=True)
    with_examples = f"{file}[examples]"
    try_demo(session, f"{session.bin}/pipx", "run", "--spec", with_examples)
    try_demo(session, f"{session.bin}/uv", "tool", "run", "--from", with_examples)  # That is uvx.


def build(session: nox.Session, into: Path) -> Path:
    """Build the distributions; returns the wheel.

    They are built twice, the wheel once from the source archive and once from here: all is the
    same, to the byte.
    """
    session.install("--constraint", LOCK, *nox.project.dependency_groups(PROJECT, "build"))
    again = Path(session.create_tmp()) / "again"
    for each, form in ((into, ()), (again, ("--sdist", "--wheel"))):
        shutil.rmtree(each, ignore_errors=True)
        command = ("python", "-m", "build", "--no-isolation", *form, "--outdir", str(each), ".")
        session.run(*command, silent=True)
    if different := [each.name for each in into.iterdir() if not is_same(each, again / each.name)]:
        session.error(f"built again, it is another: {different}")
    session.run("twine", "check", "--strict", *map(str, into.iterdir()))
    (file,) = into.glob("*.whl")
    roots = {name.split("/")[0] for name in zipfile.ZipFile(file).namelist()}
    packages = {name for name in roots if not name.endswith(".dist-info")}
    if packages != {"trivet", "trivet_contrib", "trivet_pytest"}:
        session.error(f"the wheel holds {sorted(roots)}")
    return file


def is_same(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes."""
    return one.read_bytes() == other.read_bytes()


@nox.session
def release(session: nox.Session) -> None:
    """Build in `dist` what is published under a tag: `-- v0.1.0`.

    A tag of another version is refused, and a version of which the changelog does not tell. Beside
    the distributions is a list of what is installed with them, in the form of CycloneDX.
    """
    session.run("python", "-m", "tests.release", *session.posargs)
    file = build(session, Path("dist"))
    fresh = Path(session.create_tmp()) / "fresh"
    session.run("python", "-m", "venv", "--clear", str(fresh))
    pip = (f"{fresh}/bin/pip", "install", "--constraint", LOCK)
    session.run(*pip, f"{file}[all]", external=True, silent=True)
    listing = file.with_name(f"{'-'.join(file.name.split('-')[:2])}.cdx.json")
    form = ("--pyproject", "pyproject.toml", "--output-reproducible", "--output-file", str(listing))
    session.run("cyclonedx-py", "environment", *form, f"{fresh}/bin/python")


@nox.session
def soak(session: nox.Session) -> None:
    """Ten minutes of random crashes, restarts and stops; arguments go to the script."""
    install(session, "test")
    session.run("python", "tests/runtime/soak.py", *session.posargs)


@nox.session
def storm(session: nox.Session) -> None:
    """A thousand programs whose settings and code change under load; arguments go to pytest.

    The faults that only many programs show are planted, too.
    """
    install(session, "test")
    rooms = ("tests/runtime/reload/test_storm.py", "tests/runtime/reload/test_mutants.py")
    session.run(
        "pytest", "--timeout=3600", "--hypothesis-profile=nightly", *rooms, *session.posargs
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Ten minutes of requests, frames, events and settings that are nearly right.

    What the server makes of such requests is compared with h11, too.
    Arguments go to the script: `-- --seed N` for the same ones again, `-- --seconds N` for longer.
    """
    install(session, "test")
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session
def contract(session: nox.Session) -> None:
    """Ten thousand requests generated from the OpenAPI document; arguments go to the script."""
    install(session, "test")
    session.run("python", "-m", "tests.runtime.web.contract", *session.posargs)


@nox.session
def crash(session: nox.Session) -> None:
    """A thousand kills of a program with four durable inboxes; arguments go to the script.

    Without arguments, each page of its file is damaged in turn as well.
    """
    install(session, "test")
    session.run("python", "-m", "tests.runtime.delivery.crash", *session.posargs)
    if not session.posargs:
        session.run("python", "-m", "tests.runtime.store.pages")


@nox.session
def restarts(session: nox.Session) -> None:
    """A hundred restarts of a whole program under load; arguments go to the script."""
    install(session, "test")
    session.run("python", "-m", "tests.runtime.process.restarts", *session.posargs)


@nox.session
def replicas(session: nox.Session) -> None:
    """Three programs that share a broker, killed ten times; arguments go to the script.

    `-- nats` for one broker, otherwise each of those whose server is on the PATH.
    """
    install(session, "test")
    script = ["python", "-m", "tests.contrib.replicas"]
    if session.posargs:
        session.run(*script, *session.posargs)
        return
    for broker in ("redis", "nats", "rabbitmq"):
        if shutil.which(NEEDED[f"bench_{broker}"]):
            session.run(*script, broker)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure; each figure stands beside one to compare it with. Nothing else should run meanwhile.

    HTTP is left out where wrk is not on the PATH, and a broker where its server is not.
    `-- --quick` compares some ratios with those that are committed, and fails where one has lost
    more than a third; `-- --quick --commit` commits them. See `tests/bench/guard.py`.
    `-- --report` writes what the last run has measured into `docs/benchmarks.md`.
    """
    install(session, "bench")
    if "--report" in session.posargs:
        session.run("python", "tests/bench/report.py")
        return
    if "--quick" in session.posargs:
        session.run("python", "tests/bench/guard.py", *session.posargs)
        return
    for script in sorted(Path("tests/bench").glob("bench_*.py")):
        needed = NEEDED.get(script.stem)
        if needed is not None and shutil.which(needed) is None:
            session.warn(f"{needed} is not on the PATH: {script} is left out")
        else:
            session.run("python", str(script), *session.posargs)


@nox.session
def matrix(session: nox.Session) -> None:
    """Stop every misbehaving plugin in every way, and print the exit codes as a table."""
    install(session, "test")
    session.run("python", "tests/runtime/process/matrix.py", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Serve the example plugins, as `trivet demo` does in an installed package."""
    install(session)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # nox hands it on.
    session.run("trivet", "demo", interrupt_timeout=60, terminate_timeout=60)


def try_demo(session: nox.Session, *command: str) -> None:
    """Run the demonstration, ask it for tea, and end it as Ctrl-C does."""
    session.log(f"{' '.join(command)} trivet demo")
    process = subprocess.Popen([*command, "trivet", "demo"])
    try:
        while (answer := status_of("127.0.0.1:8080", "/teapot")) is None:
            if process.poll() is not None:
                session.error(f"it has ended with the code {process.returncode}")
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=60)
    finally:
        process.kill()
    if (answer, code) != (418, 0):
        session.error(f"the teapot answered {answer}, and the demonstration ended with {code}")


def find_python(version: str) -> str | None:
    """A Python of this version: of pyenv's, or on the PATH, where pyenv's may not run."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [*sorted(home.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)]
    on_path = shutil.which(f"python{version}")
    for candidate in map(str, [*candidates, *filter(None, [on_path])]):
        if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def status_of(address: str, path: str) -> int | None:
    """The status with which a service answers; None where it cannot be reached."""
    with suppress(OSError), closing(http.client.HTTPConnection(address, timeout=1)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status
    return None
