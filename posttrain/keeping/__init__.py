"""What a backup says of itself, and what retention takes: rules, without a file or a clock."""
