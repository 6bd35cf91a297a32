"""Vocabulary of the small text encoder that tests share."""

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", "far", "away", *".,!'()?"]
