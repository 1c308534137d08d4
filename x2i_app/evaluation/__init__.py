"""Statistics that evaluations share. The judge of x2i-tiny's cartoon world is in `x2i_app.miniature.evaluation`."""
