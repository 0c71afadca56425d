"""The figures of a comparison: each is made by altair, drawn as SVG without a network, and themed by the page's CSS."""
