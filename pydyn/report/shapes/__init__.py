"""What the page says of the study `shapes`."""
