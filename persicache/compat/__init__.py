"""The names of chest, persidict, persistdict and stones, over one engine."""
