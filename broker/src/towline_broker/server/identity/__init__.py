"""Who calls: tokens, certificates and identity providers, and what their names may do."""
