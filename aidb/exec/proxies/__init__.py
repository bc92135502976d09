"""Proxies: what orders the items of a table for a question, as cheaply as can be. No guarantee rests on them."""
