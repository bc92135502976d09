"""Answers with a guarantee: the statistics' questions as exact queries over a few items, their answers as rows."""
