"""The nouns of the field. Frozen values; nothing here does anything, and nothing here imports our other rooms."""
