"""What happens around every call, whichever service it is for."""
