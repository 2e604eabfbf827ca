"""The study `dynamic` on the page: Dynamic Training against its controls, beside papers a and b."""
