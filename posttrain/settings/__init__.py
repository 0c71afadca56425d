"""What can be set: one file a section, the tree of them, and the page that lists all."""
