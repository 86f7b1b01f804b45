"""A rule of somebody else's: installed beside flatguard, it is found, set, judged and remembered like ours."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType

import pytest
from attrs import evolve

from flatguard.daemon.recovery import awakened, replayed
from flatguard.journal.store import Store
from flatguard.model.decisions import CloseContract, Flatten
from flatguard.model.entries import Checkpoint, Judged
from flatguard.model.events import PositionChanged
from flatguard.rules import discover
from flatguard.rules.max_contracts import MaxContracts
from flatguard.settings.load import AccountSettings
from tests.fakes.desk import ACCOUNT, EP, MNQ, MNQ_Z, RTY, Desk, exposure, position, record

EXAMPLE = Path(__file__).parent / "one_product_a_day"
GUIDE = Path(__file__).parents[2] / "docs" / "writing-a-rule.md"
NAME = "one_product_a_day"
CONFIG = '[gateway]\nuser_name = "trader1"\n\n[rules.{name}]\n{settings}\n\n[[accounts]]\nid = 25700001\n'


def wheel(folder: Path) -> Path:
    """Pack the example as a build backend would, which nobody has to download for that."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stem = f"{project['name'].replace('-', '_')}-{project['version']}"
    entries = "\n".join(f"{name} = {value}" for name, value in project["entry-points"]["flatguard.rules"].items())
    files = {
        f"{NAME}.py": (EXAMPLE / f"{NAME}.py").read_text(encoding="utf-8"),
        f"{stem}.dist-info/METADATA": "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".format(**project),
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/entry_points.txt": f"[flatguard.rules]\n{entries}\n",
    }
    files[f"{stem}.dist-info/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{stem}.dist-info/RECORD"])
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip has installed the example."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", str(folder / "packages"), str(wheel(folder))], check=True)
    return folder / "packages"


@pytest.fixture
def theirs(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example's module, as long as it can be imported."""
    monkeypatch.syspath_prepend(str(installed))
    yield import_module(NAME)
    sys.modules.pop(NAME, None)
    invalidate_caches()


def flatguard(installed: Path, tmp_path: Path, settings: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of flatguard in a process that has the example installed."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(name=NAME, settings=settings), encoding="utf-8")
    run = f"import sys; sys.path.insert(0, {str(installed)!r}); from flatguard.cli import main; main()"
    command = [sys.executable, "-c", run, "--config", str(config), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_found_by_the_name_of_its_entry_point(theirs: ModuleType) -> None:
    assert discover()[NAME] is theirs.OneProductADay


def test_without_being_installed_it_is_not_there() -> None:
    assert NAME not in discover()


def test_its_table_is_checked_and_shown_like_ours(installed: Path, tmp_path: Path) -> None:
    good = flatguard(installed, tmp_path, "products = 2", "config", "check")
    assert good.returncode == 0, good.stderr
    for settings, message in (
        ("products = 0", f"5: rules.{NAME}.products: must be 1 or more, not 0"),
        ('products = "two"', f'5: rules.{NAME}.products: must be a whole number, not "two"'),
        ("product = 2", f"5: rules.{NAME}.product: is not known here; did you mean products?"),
    ):
        refused = flatguard(installed, tmp_path, settings, "config", "check")
        assert refused.returncode != 0
        assert message in refused.stdout + refused.stderr


def test_it_is_judged_beside_ours(theirs: ModuleType) -> None:
    account = Desk({NAME: theirs.OneProductADay(), "max_contracts": MaxContracts(limit=3)})
    account.hold(MNQ, 2)
    account.hold(MNQ_Z, 1)
    assert not account.told
    assert account.book.answers(account.state, account.now).measures[NAME].texts == (
        "1 products",
        "1 products",
        "0 products",
    )
    account.hold(EP, 1)
    assert {breach.rule: breach.decisions for breach in account.told} == {
        NAME: (CloseContract(EP),),
        "max_contracts": (Flatten(),),
    }
    assert account.told[-1].reason == "ES held, today is for MNQ"


def test_with_the_trading_day_its_fact_begins_anew(theirs: ModuleType) -> None:
    account = Desk({NAME: theirs.OneProductADay()})
    account.hold(MNQ, 1)
    account.hold(MNQ, 0)
    account.at("17:00:01").read()
    account.hold(EP, 1)
    assert not account.told
    account.hold(MNQ, 1)
    assert account.told[0].decisions == (CloseContract(MNQ),)


@pytest.mark.parametrize("checkpointed", [True, False])
def test_its_fact_outlives_a_restart(theirs: ModuleType, tmp_path: Path, checkpointed: bool) -> None:
    """From the checkpoint, or from the tape of events folded again."""
    rules = {NAME: theirs.OneProductADay()}
    account = Desk(rules)
    store = Store.open(tmp_path / "journal.db")
    store.write([Checkpoint(account.state)])
    for size in (1, 0):
        event = PositionChanged(account.later(1).now, position(MNQ, size))
        account.tell(event)
        store.write([Judged(ACCOUNT, event)])
    if checkpointed:
        store.write([Checkpoint(account.state)])
    store.close()

    again = Desk(rules, account.later(60).now)
    store = Store.open(tmp_path / "journal.db")
    recovered = store.recover(ACCOUNT)
    store.close()
    assert bool(list(recovered.tape)) is not checkpointed
    again.state = awakened(replayed(AccountSettings(ACCOUNT, rules=rules), recovered, again.state.terms))
    assert again.state.facts == {f"{NAME}.traded": ["2025-01-15", "MNQ"]}
    again.tell(record(again.now))
    again.tell(exposure(again.now, [position(RTY, 1)]))
    assert [breach.reason for breach in again.told] == ["RTY held, today is for MNQ"]


def test_its_failure_is_its_own(theirs: ModuleType) -> None:
    account = Desk({NAME: theirs.OneProductADay(), "max_contracts": MaxContracts(limit=1)})
    account.state = evolve(account.state, facts={f"{NAME}.traded": 7})
    account.hold(MNQ, 2)
    assert [breach.rule for breach in account.told] == ["max_contracts"]
    assert {failure.rule for failure in account.last.failed} == {NAME}
    assert "TypeError" in account.last.failed[0].error


@pytest.mark.parametrize("name", ["pyproject.toml", f"{NAME}.py"])
def test_the_guide_shows_it_in_full(name: str) -> None:
    text = (EXAMPLE / name).read_text(encoding="utf-8")
    language = "python" if name.endswith(".py") else "toml"
    assert f"```{language}\n{text}```\n" in GUIDE.read_text(encoding="utf-8")
