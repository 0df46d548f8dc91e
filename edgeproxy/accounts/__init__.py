"""What accounts are made of: phone numbers."""
