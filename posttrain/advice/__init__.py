"""Which methods can learn from some data with some base, in which order to try them, and why: rules over plain facts."""
