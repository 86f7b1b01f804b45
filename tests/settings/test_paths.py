"""Where things live, and what is shipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import evolve

from flatguard.cli.config import PRESETS, preset_text
from flatguard.settings import paths
from flatguard.settings.load import load
from flatguard.shipped import shipped

CONFIG = Path(__file__).parents[2] / "config"


def test_the_settings_and_the_state_have_folders_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert paths.config_path().name == "config.toml"
    assert paths.config_path().parent.name == "flatguard"
    assert paths.state_folder().name in {"flatguard", "State"}
    assert paths.config_path().parent != paths.state_folder()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads(name: str, tmp_path: Path) -> None:
    copied = tmp_path / "config.toml"
    copied.write_text(preset_text(name), encoding="utf-8")
    settings = load(copied, {})
    assert settings.findings == ()
    assert all(account.rules for account in settings.accounts)


def test_every_shipped_file_is_of_a_preset_or_a_calendar() -> None:
    files = {path.relative_to(CONFIG).as_posix() for path in CONFIG.rglob("*.toml")}
    calendars = {name for name in files if name.startswith("calendars/")}
    assert files - calendars == {name for names in PRESETS.values() for name in names}


def test_the_example_shows_every_key_and_its_true_default(tmp_path: Path) -> None:
    text = shipped("example.toml")
    for_one_account, not_set = "# [accounts.rules.max_contracts]\n# limit = 2\n", ("path", "nickname", "default_limit")
    assert for_one_account in text
    text = text.replace(for_one_account, "")
    bare, full = tmp_path / "config.toml", tmp_path / "full.toml"
    bare.write_text(text, encoding="utf-8")
    full.write_text(
        re.sub(rf"^# (?!({'|'.join(not_set)}) )(\w+ = )", r"\2", text, flags=re.MULTILINE), encoding="utf-8"
    )
    assert evolve(load(full, {}), path=bare) == load(bare, {})
    shown = {key for key, origin in load(full, {}).origins.items() if origin != "default"}
    hidden = {key.rpartition(".")[2] for key in load(full, {}).origins.keys() - shown}
    assert hidden == set(not_set)
    assert all(f"# {key} = " in text for key in not_set)


def test_an_installed_package_reads_the_files_inside_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "example.toml").write_text("installed = true", encoding="utf-8")
    monkeypatch.setattr("flatguard.shipped.files", lambda _package: tmp_path)
    assert shipped("example.toml") == "installed = true"


def test_a_file_that_is_not_shipped_is_not_found() -> None:
    with pytest.raises(FileNotFoundError):
        shipped("presets/no-such-preset.toml")
