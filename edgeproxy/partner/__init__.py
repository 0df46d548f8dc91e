"""The partner REST API: Digest access, resources, and their two formats."""
