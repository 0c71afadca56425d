"""What a setting names as reward: the kinds, checked and loaded."""
