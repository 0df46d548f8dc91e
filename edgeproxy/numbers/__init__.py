"""The static numbers API (CONTRACT §4): display options and redirect scenarios of numbers in use."""
