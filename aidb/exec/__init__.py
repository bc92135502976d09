"""Running plans: rounds of candidates, the pipeline that fills tables, statements of definition."""
