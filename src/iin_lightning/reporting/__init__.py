"""Reports: pages for people who were not there."""
