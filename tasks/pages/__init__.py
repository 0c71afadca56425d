"""What every page that we write has in common: style and policy, colours, figures as SVG, the parts of a section."""
