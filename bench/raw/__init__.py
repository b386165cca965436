"""Brokers by their raw clients, all asked for the same: see ``queue.py``, and ``client.py`` for the
program that runs one of them in a process of its own."""
