"""Where things live on each platform."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import platformdirs

APP = "flatguard"


def config_path() -> Path:
    """Return where the settings file is, unless a flag or the environment names another."""
    return platformdirs.user_config_path(APP, appauthor=False) / "config.toml"


def state_folder() -> Path:
    """Return the folder for what must survive a restart."""
    return platformdirs.user_state_path(APP, appauthor=False)


def shipped(name: str) -> str:
    """Return the text of a file of the ``config`` folder, such as ``presets/topstep-50k.toml``.

    The folder is inside the installed package; in a source tree it stands beside ``src``.
    """
    installed = files(APP) / "config" / name
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    return (Path(__file__).parents[3] / "config" / name).read_text(encoding="utf-8")
