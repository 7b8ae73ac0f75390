"""What running jobs emit: written with the commits of their process, read page by page."""
