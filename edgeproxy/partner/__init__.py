"""The partner REST API (CONTRACT §3): Digest access, resources, and their two formats."""
