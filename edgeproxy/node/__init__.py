"""The processes of one node: workers, each with its gateway, and their supervisor."""
