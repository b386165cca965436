"""Connections to Redis or Valkey, in every topology, behind one interface (``interface.py``)."""
