"""Jobs of a store in a file, and back: what ``towline-broker export`` and ``import`` do.

``lines`` is the format, ``sorting`` brings jobs into their order, ``exporting`` writes a file,
``reading`` holds it against its checksum, ``importing`` stores what it holds. ``stores`` opens a
store without a broker.
"""
