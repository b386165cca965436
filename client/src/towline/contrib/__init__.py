"""Helpers for other libraries, each an extra of this distribution."""
