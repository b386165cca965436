"""Whether a broker would do well here: settings, stores and machine, looked at from outside."""
