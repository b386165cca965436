"""Commands beside "serve", one module each."""
