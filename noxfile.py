"""How the house is checked: ``nox`` runs everything that has to hold before a change lands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
VERSIONS = nox.project.python_versions(PROJECT)
TEST = PROJECT["dependency-groups"]["test"]
LINT = PROJECT["dependency-groups"]["lint"]
INTEROP = PROJECT["dependency-groups"]["interop"]
CALENDAR = PROJECT["dependency-groups"]["calendar"]
INTEROP_PROJECTX = PROJECT["dependency-groups"]["interop-projectx"]
PROJECTX_VERSION = "3.12"
"""project-x-py runs on nothing older."""

nox.needs_version = ">=2025.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "tests", "coverage", "wheel"]


def _interpreter(version: str) -> str | None:
    """Return a Python of ``version`` that really runs; a version manager's stand-in may exist and not."""
    name = f"python{version}"
    managed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    places = [name, *map(str, sorted(managed.glob(f"{version}.*/bin/python{version}")))]
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        places.insert(0, sys.executable)
    for place in places:
        try:
            found = subprocess.run([place, "--version"], capture_output=True, check=False, text=True)
        except OSError:
            continue
        if found.returncode == 0 and version in found.stdout:
            return place
    return None


HERE = {version: place for version in VERSIONS if (place := _interpreter(version)) is not None}
FIRST = next(iter(HERE.values()))


@nox.session(python=False)
def versions(session: nox.Session) -> None:
    """Say which of the supported Pythons this machine has."""
    for version in VERSIONS:
        session.log(f"Python {version}: {_interpreter(version) or 'not on this machine'}")


@nox.session(python=FIRST)
def lint(session: nox.Session) -> None:
    """Style, types, structured concurrency, and the direction of imports."""
    session.install(".", *LINT)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("flake8", "src")
    session.run("mypy")
    session.run("lint-imports", env={"PYTHONPATH": "src"})


@nox.session
@nox.parametrize("python", [nox.param(place, id=version) for version, place in HERE.items()])
def tests(session: nox.Session) -> None:
    """All tests; on the oldest Python with branch coverage, and only there those that take long, without it.

    The others draw fewer examples: they are for what differs between Pythons.
    """
    session.install("-e", ".", *TEST)
    arguments = session.posargs or ["-n", "2", "--dist", "loadfile", "-m", "not interop and not slow"]
    if session.python == FIRST and not session.posargs:
        session.run("coverage", "erase")
        session.run("pytest", "--cov", "--cov-report=", *arguments)
        session.run("pytest", "-n", "2", "--dist", "worksteal", "-m", "slow")
    else:
        session.run("pytest", *arguments, env={"HYPOTHESIS_PROFILE": "quick"})


@nox.session(python=FIRST)
def coverage(session: nox.Session) -> None:
    """The whole above 95 %, the pure rooms and the plan of enforcement complete."""
    session.install("coverage[toml]")
    # -i: rules that tests wrote to have them discovered are gone by now
    session.run("coverage", "report", "-i", "--fail-under=95")
    rooms = ("model/*", "ledger/*", "rules/*", "signalr/*", "reports/*", "enforcement/[np]*")
    pure = ",".join(f"*/flatguard/{room}" for room in rooms)
    session.run("coverage", "report", "-i", "--fail-under=100", f"--include={pure}")


@nox.session(python=FIRST)
def interop(session: nox.Session) -> None:
    """Other people's clients against the gateway's double; one of them needs Node, and one Python 3.12."""
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        session.error(f"{' and '.join(missing)} not found: install Node 18 or later, which the official client runs on")
    session.install("-e", ".", *TEST, *INTEROP)
    folder = Path(session.create_tmp()).resolve()  # so that no node_modules appears in the tree
    for name in ("package.json", "package-lock.json"):
        shutil.copy(Path("tests", "interop", name), folder)
    session.run("npm", "ci", "--prefix", str(folder), "--no-audit", "--no-fund", external=True)
    environment = {"NODE_PATH": str(folder / "node_modules"), **_projectx(session, folder / "projectx")}
    arguments = session.posargs or ["tests/interop", "-n", "2"]
    session.run("pytest", "-m", "interop", *arguments, env=environment)


def _projectx(session: nox.Session, folder: Path) -> dict[str, str]:
    """Put project-x-py into an environment of its own; say to its tests where that is, or why there is none."""
    interpreter = _interpreter(PROJECTX_VERSION)
    if interpreter is None:
        missing = f"project-x-py needs Python {PROJECTX_VERSION}, which is not on this machine"
        session.warn(f"{missing}: its tests are left out")
        return {"PROJECTX_MISSING": missing}
    session.run(sys.executable, "-m", "virtualenv", "--quiet", "--python", interpreter, str(folder), external=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    session.run(str(python), "-m", "pip", "install", "--quiet", *INTEROP_PROJECTX, external=True)
    return {"PROJECTX_PYTHON": str(python)}


@nox.session(python=FIRST)
def calendar(session: nox.Session) -> None:
    """The shipped exchange calendar beside somebody else's; a difference has to be explained."""
    session.install("-e", ".", *CALENDAR)
    session.run("python", "-m", "tests.calendars")


@nox.session(python=FIRST)
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it into an environment of its own, and start it from elsewhere."""
    session.install("build")
    folder = Path(session.create_tmp())
    session.run("python", "-m", "build", "--wheel", "--outdir", str(folder), silent=True)
    built = max(folder.glob("*.whl"), key=os.path.getmtime)
    session.install("--force-reinstall", str(built))
    with session.chdir(folder):
        session.run("flatguard", "--version")
        session.run("flatguard", "config", "init", "--config", "config.toml", "--force")
        session.run("flatguard", "config", "check", "--config", "config.toml")
        session.run("flatguard", "demo", "--json", silent=True)


@nox.session(python=FIRST)
def bench(session: nox.Session) -> None:
    """Report how fast it is, as ratios within this run; the other clients are installed for this alone."""
    session.install("-e", ".", "pysignalr", "signalrcore")
    session.run("python", "benchmarks/breach_to_request.py", *session.posargs)
    session.run("python", "benchmarks/rules.py")
    session.run("python", "benchmarks/simulator.py")
    session.run("python", "benchmarks/signalr.py", *session.posargs)
    session.run("python", "benchmarks/signalr.py", "--slow-handler")


@nox.session(python=FIRST)
def fuzz(session: nox.Session) -> None:
    """Feed the SignalR core whatever reaches new code, for a minute or as long as -max_total_time=seconds says."""
    session.install("-e", ".", "atheris>=3")
    session.run("python", "-m", "tests.fuzz", session.create_tmp(), *session.posargs)


@nox.session(python=FIRST)
def sim(session: nox.Session) -> None:
    """Live lives drawn from seeds, and look on: --runs N --seed S --turns T, or --replay SEED."""
    session.install("-e", ".", *TEST)
    session.run("python", "-m", "tests.sim", *session.posargs, env={"PYTHONHASHSEED": "0"})
