"""AI judges that can be asked: local models and servers."""
