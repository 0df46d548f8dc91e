"""How large a pool must be: Erlang's formula, and the store itself tried with traffic on a virtual clock."""
