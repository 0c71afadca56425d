"""Reports as files, pictures and text in a terminal."""
