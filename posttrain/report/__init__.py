"""What a report says, as data and as text."""
