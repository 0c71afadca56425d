"""AI judges as ideas: templates, opinions, their quality, simulated reviews to practise on."""
