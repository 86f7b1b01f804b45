"""Where things live on each platform."""

from __future__ import annotations

from pathlib import Path

import platformdirs

APP = "flatguard"


def config_path() -> Path:
    """Return where the settings file is, unless a flag or the environment names another."""
    return platformdirs.user_config_path(APP, appauthor=False) / "config.toml"


def secrets_folder() -> Path:
    """Return the folder for what nobody else may read: sealed files. It is made with mode 0700 when it is needed."""
    return state_folder() / "secrets"


def state_folder() -> Path:
    """Return the folder for what must survive a restart."""
    return platformdirs.user_state_path(APP, appauthor=False)
