"""One zip for others."""
