"""Servers that Towline is measured beside and that its tests do not need."""
