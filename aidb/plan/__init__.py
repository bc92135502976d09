"""From a query to the model calls it needs: which items, in which order, and when to stop."""
