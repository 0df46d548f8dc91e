"""The static numbers API: display options and redirect scenarios of numbers in use."""
