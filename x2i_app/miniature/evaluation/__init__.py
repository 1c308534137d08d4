"""The miniature's own judge: how many attributes of its drawings are right."""
