"""Every string of the page, in every language."""
