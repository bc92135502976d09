"""Choosing rows by a proxy and few labels, so that recall, precision or both meet a target."""
