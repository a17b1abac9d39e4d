"""Adapter layers: what to add to a frozen module, where, and how to take it out again. Pure torch."""
