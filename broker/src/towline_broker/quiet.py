"""Imported before gRPC, which otherwise writes a line of its own on standard error for each peer
whose TLS handshake fails: any scan of the port would fill the log, and such a line is no JSON.

Whoever looks for the reason sets GRPC_VERBOSITY=INFO.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
