"""What the trader decided: the settings file, the paths of this platform, and the API key, which is in neither."""
