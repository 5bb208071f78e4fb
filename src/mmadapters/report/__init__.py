"""Tables and pages of a comparison, made from ``comparison.json`` alone."""
