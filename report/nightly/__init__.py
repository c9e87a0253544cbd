"""What a reader sees of nights: a page, Markdown, a table in a terminal, a figure."""
