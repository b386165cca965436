"""One file for each gRPC service: from the messages of the contract to the core and back."""
