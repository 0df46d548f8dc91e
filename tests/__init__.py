"""The tests: unit (no store), store (each function, with a clock of its own), http, fault and e2e (processes)."""
