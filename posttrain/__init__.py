"""Ideas: records, settings, rewards, losses, statistics. No file, no network, no clock."""
