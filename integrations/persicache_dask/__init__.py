"""persicache for dask: results, and more data than memory."""
