"""Labelling by people: what is asked, who is shown what next, what was answered, and how well."""
