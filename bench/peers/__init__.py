"""Workers of other libraries, doing the same as ours: see bench/parts/libraries.py.

Each ``on_*.py`` is a module as its library wants it, run by the Python of ``.venv-peers``; with
``enqueue N`` as arguments it fills the queue. Where the server is and where to count stands in the
environment.
"""
