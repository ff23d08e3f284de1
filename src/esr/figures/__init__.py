"""Style of the figures, and the tables that they plot."""
