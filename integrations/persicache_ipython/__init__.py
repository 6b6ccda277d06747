"""persicache for Jupyter and IPython: cells that are run once."""
