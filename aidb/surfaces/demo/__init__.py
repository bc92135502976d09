"""Five minutes with AIDB: real pictures, a drawn street, and the questions that one asks of them. ``aidb demo``."""
