"""Assembling a broker from its settings, and running it."""
