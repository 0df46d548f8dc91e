"""Accounts and their pools, the numbers in them, and the files that they stand in."""
