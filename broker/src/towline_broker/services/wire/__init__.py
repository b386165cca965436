"""The messages that come by the thousand, read and written without an object for each of their
parts.

A message object costs several times what its bytes do: half of what a Push took was making objects
of jobs that are stored as the bytes they came in. What is written here is the same on the wire; the
tests hold it against protobuf.
"""
