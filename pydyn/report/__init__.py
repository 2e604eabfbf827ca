"""From files of results to one page: measured figures beside published ones."""
