"""edgeproxy: a gateway for call tracking. Signed pages of numbers in, tracking numbers out."""

__version__ = "0.1.0"
