"""The names that SQL may use for items, models and the tables that models fill."""
