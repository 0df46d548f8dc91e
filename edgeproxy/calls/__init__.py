"""Calls: who was shown a number, where a call on it goes, and what becomes of the call."""
