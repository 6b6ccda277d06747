"""persicache for zarr: its stores over any place."""
