"""A broker process from its start to its end, and several of them on one address."""
