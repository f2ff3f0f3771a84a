"""The live view of `mainstay top`: what was scraped, what is to be made of it, how it looks."""
