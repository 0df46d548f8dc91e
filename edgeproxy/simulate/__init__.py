"""How large a pool must be: Erlang's formula, and the store itself tried with traffic on a virtual clock."""

from edgeproxy.simulate.commands import simulate, size

__all__ = ["simulate", "size"]
