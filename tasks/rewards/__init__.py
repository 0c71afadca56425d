"""What a setting names as reward, loaded and checked."""
