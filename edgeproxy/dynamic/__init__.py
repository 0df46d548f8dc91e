"""The Dynamic Numbers API, `POST /api`."""
