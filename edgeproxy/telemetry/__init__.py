"""What the gateway tells of itself: metrics, logs, and the audit of management writes."""
