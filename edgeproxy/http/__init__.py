"""What every API shares over HTTP: connections, who asks, bodies, how errors are told, the document."""
