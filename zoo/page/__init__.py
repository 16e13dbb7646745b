"""Parts of HTML pages, and what a workdir holds to be shown on them."""
